"""A Server.xml on loopback with free ports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from tests.kit.ports import free_ports

BYPASS = """
            <OutputProfile>
              <Name>bypass</Name>
              <OutputStreamName>${OriginStreamName}</OutputStreamName>
              <Encodes>
                <Video><Name>video</Name><Bypass>true</Bypass></Video>
                <Audio><Name>audio</Name><Bypass>true</Bypass></Audio>
              </Encodes>
            </OutputProfile>"""

#: Three renditions of one decode, in one playlist: small ones, so that two cores have time for a browser too.
LADDER = """
            <OutputProfile>
              <Name>ladder</Name>
              <OutputStreamName>${OriginStreamName}</OutputStreamName>
              <Playlist>
                <Name>ladder</Name><FileName>ladder</FileName>
                <Rendition><Name>360p</Name><Video>v360</Video><Audio>a128</Audio></Rendition>
                <Rendition><Name>288p</Name><Video>v288</Video><Audio>a128</Audio></Rendition>
                <Rendition><Name>180p</Name><Video>v180</Video><Audio>a128</Audio></Rendition>
              </Playlist>
              <Encodes>
                <Video><Name>v360</Name><Codec>h264</Codec><Width>640</Width><Height>360</Height><Bitrate>700000</Bitrate>
                  <Framerate>30</Framerate><KeyFrameInterval>30</KeyFrameInterval><Preset>faster</Preset></Video>
                <Video><Name>v288</Name><Codec>h264</Codec><Width>512</Width><Height>288</Height><Bitrate>400000</Bitrate>
                  <Framerate>30</Framerate><KeyFrameInterval>30</KeyFrameInterval><Preset>faster</Preset></Video>
                <Video><Name>v180</Name><Codec>h264</Codec><Width>320</Width><Height>180</Height><Bitrate>200000</Bitrate>
                  <Framerate>30</Framerate><KeyFrameInterval>30</KeyFrameInterval><Preset>faster</Preset></Video>
                <Audio><Name>a128</Name><Codec>aac</Codec><Bitrate>128000</Bitrate><Samplerate>48000</Samplerate><Channel>2</Channel></Audio>
              </Encodes>
            </OutputProfile>"""


@dataclass(frozen=True)
class Application:
    """One application. ``captures`` are names and capture URLs; ``profiles`` is XML; part and segment in seconds."""

    name: str = "app"
    profiles: str = ""
    captures: tuple[tuple[str, str], ...] = ()
    part: float = 0.5
    segment: float = 2
    count: int = 5
    #: More of <Providers>, of <Publishers>, and of <LLHLS>.
    providers: str = ""
    publishers: str = ""
    llhls: str = ""

    def xml(self) -> str:
        streams = "".join(
            f"<Stream><Name>{escape(name)}</Name><Url>{escape(url)}</Url></Stream>" for name, url in self.captures
        )
        capture = f"<Capture><Streams>{streams}</Streams></Capture>" if streams else ""
        outputs = f"<OutputProfiles>{self.profiles}\n          </OutputProfiles>" if self.profiles else ""
        return f"""
        <Application>
          <Name>{escape(self.name)}</Name>
          <Type>live</Type>
          {outputs}
          <Providers><RTMP/>{capture}{self.providers}</Providers>
          <Publishers>
            <LLHLS>
              <ChunkDuration>{self.part}</ChunkDuration>
              <SegmentDuration>{self.segment}</SegmentDuration>
              <SegmentCount>{self.count}</SegmentCount>
              <CrossDomains><Url>*</Url></CrossDomains>{self.llhls}
            </LLHLS>{self.publishers}
          </Publishers>
        </Application>"""


@dataclass(frozen=True)
class Ports:
    api: int
    rtmp: int
    http: int
    tls: int

    @classmethod
    def free(cls) -> Ports:
        return cls(*free_ports(4))


PATTERN = ("pattern", "pattern://?size=640x360&fps=30")


@dataclass(frozen=True)
class ServerXml:
    """Ports and applications of one engine; ``certificate`` is (certificate, key) for the TLS port of LL-HLS.

    Without ``applications`` there is no virtual host: they are made over the API then.
    """

    applications: tuple[Application, ...] = (Application(captures=(PATTERN,)),)
    ports: Ports = field(default_factory=Ports.free)
    certificate: tuple[Path, Path] | None = None
    #: <Origins> of the virtual host.
    origins: str = ""

    def xml(self) -> str:
        ports = self.ports
        tls = f"<TLSPort>{ports.tls}</TLSPort>" if self.certificate else ""
        keys = ""
        if self.certificate:
            cert, key = self.certificate
            keys = f"<TLS><CertPath>{escape(str(cert))}</CertPath><KeyPath>{escape(str(key))}</KeyPath></TLS>"
        vhosts = f"""  <VirtualHosts>
    <VirtualHost>
      <Name>default</Name>
      <Host><Names><Name>*</Name></Names>{keys}</Host>{self.origins}
      <Applications>{"".join(application.xml() for application in self.applications)}
      </Applications>
    </VirtualHost>
  </VirtualHosts>
""" if self.applications else ""
        return f"""<?xml version="1.0" encoding="UTF-8"?>
<Server version="8">
  <Name>Kiln</Name>
  <Type>origin</Type>
  <IP>127.0.0.1</IP>
  <Bind>
    <Managers><API><Port>{ports.api}</Port></API></Managers>
    <Providers><RTMP><Port>{ports.rtmp}</Port></RTMP></Providers>
    <Publishers><LLHLS><Port>{ports.http}</Port>{tls}</LLHLS></Publishers>
  </Bind>
  <Managers>
    <Host><Names><Name>*</Name></Names></Host>
  </Managers>
{vhosts}</Server>
"""

    def write(self, path: Path) -> Path:
        path.write_text(self.xml())
        return path
