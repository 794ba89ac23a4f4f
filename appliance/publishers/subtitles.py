"""Which subtitle tracks an output stream has."""

from __future__ import annotations

from appliance.media.contracts import OutputStream
from appliance.settings.models import OutputProfiles, Subtitles


def subtitles_of(output: OutputStream) -> Subtitles:
    """The settings of the application's subtitles; none are listed in them where they are off."""
    profiles = getattr(output.application, "output_profiles", None)
    if not isinstance(profiles, OutputProfiles) or not profiles.media_options.subtitles.enable:
        return Subtitles()
    return profiles.media_options.subtitles
