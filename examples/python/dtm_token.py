"""A token of dtm_pg with every request that DTM's SDK sends to the server, and with no other."""
from requests import sessions


def use(dtm, token):
    """dtm: the address that the SDK is given."""
    prepare_request = sessions.Session.prepare_request

    def with_token(self, request):
        prepared = prepare_request(self, request)
        if prepared.url.startswith(dtm + "/"):
            prepared.headers["Authorization"] = "Bearer " + token
        return prepared

    sessions.Session.prepare_request = with_token
