"""The MQTT port of IoT Core, on loopback: who may connect, and how others are told that they may not.

A device has to show a certificate that is registered and active. Any other is refused with a TLS alert, so that the device
can say why. A certificate that is deactivated or deleted loses its connections as well. DescribeEndpoint names this port.
"""

import asyncio
import hashlib
import socket
import ssl
from asyncio import sslproto

from ministack.core.responses import json_response
from ministack.services import iot

# Long enough for a client on loopback to read an alert.
ALERT_SECONDS = 1.0

_stock_ssl_context = iot._mtls_build_ssl_context
_stock_handle_certificate = iot._handle_certificate
_stock_describe_endpoint = iot._describe_endpoint
_stock_handshake_complete = sslproto.SSLProtocol._on_handshake_complete

# The context of new connections, and the ids of the certificates that it trusts.
_context = None
_trusted = None


def active_certificates():
    """Id and PEM of all that the port trusts. Each is an anchor of its own: who signed it counts for nothing."""
    records = [record for record in list(iot._certificates._data.values()) if isinstance(record, dict)]
    return [(r["certificateId"], r["certificatePem"]) for r in records if r.get("status") == "ACTIVE"]


def build_ssl_context():
    context = _stock_ssl_context()
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session is not asked for its certificate again.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def on_client_hello(ssl_object, server_name, _listener_context):
    """Anchors can be added to a context but not taken away, so a changed registry needs a new one."""
    global _context, _trusted
    if server_name:
        iot._mtls_server_names[ssl_object] = server_name
    trusted = frozenset(certificate_id for certificate_id, _pem in active_certificates())
    if _context is None or trusted != _trusted:
        _context, _trusted = build_ssl_context(), trusted
    ssl_object.context = _context


def on_handshake_complete(protocol, failure):
    """asyncio drops what OpenSSL still has to say after a failed handshake, which is the alert."""
    if failure is not None and hasattr(protocol, "_outgoing"):
        alert = protocol._outgoing.read()
        if alert and protocol._transport is not None:
            protocol._transport.write(alert)
    _stock_handshake_complete(protocol, failure)


async def hang_up(spare):
    """Closes a connection so that its client gets to read what was sent: not before it has hung up, too."""
    loop = asyncio.get_running_loop()

    async def wait_for_client():
        while await loop.sock_recv(spare, 4096):
            pass

    try:
        spare.setblocking(False)
        spare.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(wait_for_client(), ALERT_SECONDS)
    except (OSError, asyncio.TimeoutError):
        pass
    finally:
        spare.close()


class Acceptor(iot._MtlsAcceptor):
    async def _upgrade(self, transport):
        loop = asyncio.get_running_loop()
        context = await iot._mtls_context()
        if context is None or transport.is_closing():
            transport.abort()
            return
        # asyncio closes its own socket at once when the handshake fails.
        spare = transport.get_extra_info("socket").dup()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            tls_transport = await loop.start_tls(transport, protocol, context, server_side=True)
        except (OSError, asyncio.TimeoutError) as error:
            iot._mtls_logger.warning("IoT mTLS: refused a client: %s", error)
            await hang_up(spare)
            return
        spare.close()
        protocol.connection_made(tls_transport)
        await iot._mtls_handle_conn(reader, asyncio.StreamWriter(tls_transport, protocol, reader, loop))


def end_refused_sessions():
    for writer in list(iot._mtls_sessions):
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if not iot._mtls_active_registrations(hashlib.sha256(der).hexdigest()):
            writer.transport.abort()


def handle_certificate(method, path, body, qp):
    answer = _stock_handle_certificate(method, path, body, qp)
    if method != "GET" and iot._mtls_loop is not None:
        iot._mtls_loop.call_soon_threadsafe(end_refused_sessions)
    return answer


def apply(listener):
    async def start_broker():
        if iot._mtls_server is None:
            loop = asyncio.get_running_loop()
            iot._mtls_server = await loop.create_server(Acceptor, sock=listener.dup())
            iot._mtls_loop = loop

    def describe_endpoint(qp):
        if qp.get("endpointType", "iot:Data-ATS") != "iot:Data-ATS":
            return _stock_describe_endpoint(qp)
        return json_response({"endpointAddress": f"127.0.0.1:{listener.getsockname()[1]}"})

    iot._mtls_trust_anchors = active_certificates
    iot._mtls_build_ssl_context = build_ssl_context
    iot._mtls_on_client_hello = on_client_hello
    iot._mtls_start_locked = start_broker
    iot._handle_certificate = handle_certificate
    iot._describe_endpoint = describe_endpoint
    sslproto.SSLProtocol._on_handshake_complete = on_handshake_complete
