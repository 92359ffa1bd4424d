"""`predict`: classes, probabilities and saliency of incoming series."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.device.cli.options import (
    Commands,
    add_bundle,
    add_engine_options,
    add_json,
    add_session_options,
    engines_from_options,
)
from edgedistill.device.cli.output import EXIT_KEPT
from edgedistill.errors import DataError, MachineError, UsageError
from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.bundle.reader import Bundle
    from edgedistill.device.drift.profile import Profiler
    from edgedistill.device.predict.inputs import Item
    from edgedistill.device.predict.mqtt import Broker
    from edgedistill.device.predict.output import Write
    from edgedistill.device.predict.predictor import PredictionResult, Predictor
    from edgedistill.device.predict.service import Service

_PATIENCE_S = 60.0  # for room at the broker, with files; a service does not wait
_SATURATES = (
    "{} sums 8-bit products in 16 bits on this processor, which saturate: its predictions are not "
    "those that were measured. Bundle its ONNX file too, which is exact: optimize.formats: "
    "[onnx, ort]."
)


def add_predict(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("predict", help="classify series, and say why")
    add_bundle(command)
    file = command.add_argument(
        "file", metavar="FILE", help="table, JSON lines, .ts, NPZ or NPY (default: standard input)"
    )
    file.required = False  # nargs="?" would refuse it after an option, before Python 3.12
    command.add_argument("--saliency", action="store_true", help="say which windows support it")
    command.add_argument(
        "--preprocessed", action="store_true", help="series come as the model takes them"
    )
    add_session_options(command)
    _add_stream_options(command)
    _add_service_options(command)
    _add_profile_options(command)
    add_engine_options(command)
    command.add_argument("--csv", action="store_true", help="print CSV, not a table")
    add_json(command)
    command.set_defaults(command=_predict)


def _add_stream_options(command: argparse.ArgumentParser) -> None:
    stream = command.add_argument_group("sliding windows")
    stream.add_argument("--stream", action="store_true", help="a line is one time step")
    stream.add_argument(
        "--hop", type=int, metavar="STEPS", help="from window to window (default: a window)"
    )
    stream.add_argument(
        "--window", type=int, metavar="STEPS", help="of a window (default: those of the model)"
    )


def _add_service_options(command: argparse.ArgumentParser) -> None:
    service = command.add_argument_group("as a service")
    service.add_argument(
        "--listen", metavar="ADDRESS", help="answer on a socket: unix:PATH or HOST:PORT"
    )
    service.add_argument(
        "--token", type=Path, metavar="FILE", help="what clients of HOST:PORT have to know"
    )
    service.add_argument("--no-auth", action="store_true", help="whoever reaches HOST:PORT may ask")
    service.add_argument("--folder", type=Path, metavar="DIR", help="take files moved in here")
    service.add_argument(
        "--mqtt", metavar="BROKER", help="publish predictions to [mqtts://][USER@]HOST[:PORT]"
    )
    service.add_argument("--topic", help="that predictions are published to")
    service.add_argument("--subscribe", metavar="TOPIC", help="take series from this topic")


def _add_profile_options(command: argparse.ArgumentParser) -> None:
    profile = command.add_argument_group("drift")
    profile.add_argument(
        "--profile", type=Path, metavar="FILE", help="count what comes in here, for `drift`"
    )
    profile.add_argument(
        "--saliency-every",
        type=int,
        default=10,
        metavar="N",
        help="a map for the profile with every Nth prediction; 0: none (default: %(default)s)",
    )


def _predict(options: argparse.Namespace) -> int:
    _check(options)
    from edgedistill.device.predict.service import Service, restart

    service = Service(options.named, options.release)
    code = _work(options, service)
    if service.renewed:
        restart()
    return code


def _check(options: argparse.Namespace) -> None:
    services = [f"--{name}" for name in ("listen", "folder", "subscribe") if getattr(options, name)]
    if len(services) > 1:
        raise UsageError(f"{' and '.join(services)} exclude each other. Choose one.")
    of_files = [f"--{name}" for name in ("stream", "csv", "json") if getattr(options, name)]
    if services and (of_files or options.file):
        raise UsageError(
            f"{services[0]} takes series from there and answers in JSON lines. Leave out "
            f"{', '.join(of_files) or options.file}."
        )
    _check_authentication(options)
    if options.csv and options.json:
        raise UsageError("--csv and --json exclude each other. Choose one.")
    if not options.stream and (options.hop is not None or options.window is not None):
        raise UsageError("--hop and --window are of a stream of time steps. Add --stream.")
    if (options.mqtt is None) != (options.topic is None):
        raise UsageError("--mqtt names a broker and --topic where it publishes. Give both.")
    if options.subscribe and options.mqtt is None:
        raise UsageError("--subscribe needs a broker. Add --mqtt and --topic.")
    if options.saliency_every < 0:
        raise UsageError(f"--saliency-every is {options.saliency_every}. Give 0 or more.")


def _check_authentication(options: argparse.Namespace) -> None:
    """Refuse a port that anyone may ask, unless that is meant."""
    is_port = options.listen is not None and not options.listen.startswith("unix:")
    if options.token and options.no_auth:
        raise UsageError("--token and --no-auth exclude each other. Choose one.")
    if (options.token or options.no_auth) and not is_port:
        raise UsageError(
            "--token and --no-auth are of a port, --listen HOST:PORT. A Unix socket is open to the "
            "service's user and group."
        )
    if is_port and not (options.token or options.no_auth):
        raise UsageError(
            f"Whoever reaches {options.listen} could ask. Give --token FILE, made with `(umask "
            "077; head -c 32 /dev/urandom | base64 >FILE)`, or --no-auth to let anyone."
        )


def _work(options: argparse.Namespace, service: Service) -> int:
    from edgedistill.bundle.reader import open_bundle
    from edgedistill.device.predict.predictor import Predictor
    from edgedistill.device.runtime import is_exact, start

    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(options.bundle))
        model = bundle.model(options.model)
        runtime = start(
            model,
            threads=options.threads,
            provider=options.provider,
            engines=engines_from_options(options) if model.runtime == "tensorrt" else None,
        )
        if not is_exact(model, provider=options.provider):
            _log(_SATURATES.format(model.path.name))
        predictor = Predictor(
            bundle,
            runtime,
            preprocessed=options.preprocessed,
            saliency=options.saliency,
            observer=stack.enter_context(_profiler(options, bundle)) if options.profile else None,
            observe_every=options.saliency_every,
        )
        broker = stack.enter_context(_broker(options)) if options.mqtt else None
        if broker is not None and predictor.saliency:
            _publish_plan(broker, predictor)
        code = _run_source(options, predictor, service, broker)
    if broker is not None and broker.dropped:
        lost = f"The broker did not take {broker.dropped} predictions."
        if not _serves(options):
            raise MachineError(f"{lost} Send the series again when the broker is well.")
        _log(lost)
    return code


def _run_source(
    options: argparse.Namespace, predictor: Predictor, service: Service, broker: Broker | None
) -> int:
    """Predict the series of the chosen source."""
    publish = _publisher(broker, predictor)
    service.check = predictor.check
    if options.subscribe and broker is not None:
        from edgedistill.device.predict.message_server import serve_messages

        serve_messages(broker, predictor, service, log=_log)
    elif options.listen:
        from edgedistill.device.predict.socket_server import read_token, serve
        from edgedistill.device.predict.sockets import to_address

        token = read_token(options.token) if options.token else None
        address = to_address(options.listen)
        serve(address, predictor, service, log=_log, observe=publish, token=token)
    elif options.folder:
        from edgedistill.device.predict.folder import watch

        watch(options.folder, predictor, service, log=_log, observe=publish)
    else:
        try:
            return _print_all(options, predictor, publish)
        except BrokenPipeError:  # the reader, such as `head`, has closed
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_KEPT


def _print_all(
    options: argparse.Namespace, predictor: Predictor, publish: Callable[[PredictionResult], None]
) -> int:
    """Predict all items; exit code 3 if one could not be used."""
    write = _writer(options, predictor)
    failed = predicted = 0
    with _open_input(options.file) as stream:
        items, ending = _items(options, predictor, stream)
        for item in items:
            answer = predictor.predict_item(item)
            write(answer)
            publish(answer)
            failed += answer.prediction is None
            predicted += answer.prediction is not None
    _log(f"Predicted {predicted}, could not use {failed}{ending()}.")
    if not predicted and not failed:
        what = "a whole window" if options.stream else "a series a line, or an NPZ file"
        raise DataError(f"Nothing came to predict. Send {what}.")
    return DataError.exit_code if failed else EXIT_KEPT


def _items(
    options: argparse.Namespace, predictor: Predictor, stream: BufferedReader
) -> tuple[Iterator[Item], Callable[[], str]]:
    """Return the items of a stream, and a function for the last words of the summary."""
    from edgedistill.device.predict.readers import series_items, window_items

    if not options.stream:
        items = series_items(
            stream, predictor.channels, predictor.schema, predictor.class_names, log=_log
        )
        return items, lambda: ""
    windows = predictor.windows(options.window, options.hop)
    return (
        window_items(stream, predictor.channels, windows),
        lambda: f"; {windows.left_over} of {windows.count} steps came after the last window",
    )


def _writer(options: argparse.Namespace, predictor: Predictor) -> Write:
    from edgedistill.device.predict.output import CsvRows, JsonLines, Table

    if options.json:
        return JsonLines(predictor, sys.stdout)
    kind = CsvRows if options.csv else Table
    return kind(predictor, sys.stdout, sys.stderr)


def _profiler(options: argparse.Namespace, bundle: Bundle) -> Profiler:
    from edgedistill.device.drift.profile import Profiler

    reference, _ = bundle.reference()
    return Profiler(options.profile, reference, log=_log)


def _broker(options: argparse.Namespace) -> Broker:
    from edgedistill.device.predict.mqtt import Broker, to_broker

    return Broker(
        to_broker(options.mqtt),
        options.topic,
        source=options.subscribe,
        patience_s=0.0 if _serves(options) else _PATIENCE_S,
        waits=_serves(options),
        log=_log,
    )


def _serves(options: argparse.Namespace) -> bool:
    return bool(options.listen or options.folder or options.subscribe)


def _publish_plan(broker: Broker, predictor: Predictor) -> None:
    from edgedistill.device.predict.output import plan_record, to_line

    broker.publish(to_line(plan_record(predictor)), subtopic="/plan", keep=True)


def _publisher(broker: Broker | None, predictor: Predictor) -> Callable[[PredictionResult], None]:
    if broker is None:
        return lambda _: None
    from edgedistill.device.predict.output import to_line, to_record

    def publish(result: PredictionResult) -> None:
        broker.publish(to_line(to_record(result, predictor)))

    return publish


@contextmanager
def _open_input(name: str | None) -> Iterator[BufferedReader]:
    if name is None or name == "-":
        if sys.stdin is None:
            raise DataError("There is no standard input. Name a file.")
        yield sys.stdin.buffer  # type: ignore[misc]
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise DataError(f"Cannot read {name}: {error.strerror}. Check the path.") from error
        yield stream


def _log(line: str) -> None:
    echo(line, err=True)
