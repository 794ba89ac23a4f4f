"""The egress guard: the one way out for every URL that came from outside (pull, push, webhook, alert, schedule).

``Egress.check_url`` takes a URL apart and says what is wrong with it; ``resolve``, ``open_tcp``, ``open_tls`` and
``http_client`` reach nothing but addresses that were checked, whatever a name server or a redirect says.
"""

from appliance.net.egress.addresses import AddressRules
from appliance.net.egress.guard import AddressRefused, Egress
from appliance.net.egress.url import parse_url

__all__ = ["AddressRefused", "AddressRules", "Egress", "parse_url"]
