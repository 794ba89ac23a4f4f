"""Settings: Server.xml and the same in JSON (``models``, ``xml``, ``json_form``, ``check``), names, and what the API
made (``store``). Nothing is imported here, so that importing one part stays cheap."""
