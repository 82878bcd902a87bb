"""`kfp-custody webhook`: Alertmanager's notifications as retrainings."""

from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.refusals import refusals


def webhook(
    token_file: Annotated[
        Path, typer.Option("--token-file", metavar="FILE", help="The bearer token that Alertmanager sends.")
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST", help="The address to listen on; of a pod 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 9099,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate chain, for HTTPS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key.")] = None,
) -> None:
    """Receive Alertmanager's notifications at /retrain, and start what the retraining file maps them to.

    A firing alert starts one run for its fingerprint and start, whoever repeats it; a resolved one starts nothing. What
    is started, and where claims are kept, is said by the environment as for start_retraining (CUSTODY_RETRAINING,
    CUSTODY_WATCH_STATE, KFP_HOST). Without --tls-cert, listen on this machine alone or behind what speaks TLS.

        kfp-custody webhook --token-file token --tls-cert tls.crt --tls-key tls.key
    """
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key go together")
    with refusals():
        import signal
        import ssl
        import threading

        from kfp_custody.components._shared import codes
        from kfp_custody.components._shared.errors import Misconfigured
        from kfp_custody.components._shared.settings import load_settings, load_watch_settings
        from kfp_custody.components.retraining.webhook import Webhook, say

        context = None
        if tls_cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            try:
                context.load_cert_chain(tls_cert, tls_key)
            except ssl.SSLError as error:
                raise Misconfigured(
                    "The webhook's certificate or key cannot be used.",
                    evidence=f"{tls_cert}, {tls_key}: {error.reason or 'no PEM'}",
                    remedy="Give the chain and the unencrypted key that belongs to it, both in PEM.",
                    code=codes.WATCH_SETTINGS,
                ) from error
        settings = load_watch_settings(load_settings().trust_file)
        with Webhook((listen, port), token_file, settings, context) as server:
            for number in (signal.SIGTERM, signal.SIGINT):
                # shutdown waits for serve_forever, which this very thread is in
                signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
            scheme = "https" if context else "http"
            say(f"listening on {scheme}://{listen}:{server.server_address[1]}/retrain")
            server.serve_forever(poll_interval=0.2)
        say("stopped")
