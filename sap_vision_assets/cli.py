"""The sap-vision command. Everything heavy is imported by the command that needs it."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sap_vision_assets.errors import InputError, SapVisionError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0, 1 when it failed or found something wrong, 130 when it was interrupted.

    Bad usage exits with 2, as argparse does.
    """
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        return command(arguments)
    except SapVisionError as error:
        print(f"sap-vision: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("sap-vision: interrupted; run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader, `head` for one, has seen enough; Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sap-vision",
        description="From labelled business documents to a tested, exported, benchmarked LayoutLMv3.",
        epilog="SAP_VISION_HOME holds all state (default .sap_vision), SAP_VISION_DATA the documents "
        "(default $SAP_VISION_HOME/data), SAP_VISION_VOCABULARY a vocabulary extension.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_synth,
        _add_validate,
        _add_import,
        _add_labels,
        _add_run,
        _add_join,
        _add_report,
        _add_predict,
        _add_ui,
    ):
        add(commands)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Command,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example: {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=command)
    return parser


def _add_vocabulary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help="vocabulary extension (else $SAP_VISION_VOCABULARY)"
    )


def _add_domain(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--domain", default="general", metavar="D", help=what)


def _vocabulary_path(arguments: argparse.Namespace) -> Path | None:
    from sap_vision_assets.defs.home import vocabulary_extension  # noqa: PLC0415

    given: Path | None = arguments.vocabulary
    return given.absolute() if given else vocabulary_extension()


def _add_synth(commands: Any) -> None:
    parser = _add(
        commands,
        "synth",
        _synth,
        "Write synthetic labelled documents.",
        "sap-vision synth --out data --split train --num-samples 1000 --seed 1",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="data root to write into")
    parser.add_argument("--split", choices=("train", "val", "test"), required=True)
    parser.add_argument("--num-samples", type=int, required=True, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    _add_domain(parser, "folder below the data root")
    parser.add_argument("--dpi", type=int, default=100, help="resolution of the pages")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes; 0: one a core")


def _synth(arguments: argparse.Namespace) -> int:
    from sap_vision_assets.defs.partitions import require_domain_name  # noqa: PLC0415
    from sap_vision_assets.documents.synthesis.synthesize import synthesize  # noqa: PLC0415

    synthesize(
        arguments.out,
        num_samples=arguments.num_samples,
        split=arguments.split,
        seed=arguments.seed,
        domain=require_domain_name(arguments.domain),
        dpi=arguments.dpi,
        workers=arguments.workers,
    )
    print(f"{arguments.num_samples} documents in {arguments.out / arguments.domain / arguments.split}")
    return 0


def _add_validate(commands: Any) -> None:
    parser = _add(
        commands,
        "validate",
        _validate,
        "Say what would be rejected, and why, without writing anything; exit 1 when something would.",
        "sap-vision validate data/receipts",
    )
    parser.add_argument("path", type=Path, metavar="DIR", help="a data root, a domain's or a split's folder")
    _add_vocabulary(parser)


def _validate(arguments: argparse.Namespace) -> int:
    from sap_vision_assets.documents import validate  # noqa: PLC0415
    from sap_vision_assets.vocabulary import load_vocabulary  # noqa: PLC0415

    report = validate(arguments.path, load_vocabulary(_vocabulary_path(arguments)))
    print(report.render(), end="")
    is_sound = report.num_documents and not report.num_rejected and not report.folder_problems
    return 0 if is_sound else EXIT_FAILED


def _add_import(commands: Any) -> None:
    parser = _add(
        commands,
        "import",
        _import,
        "Convert a public data set into a domain of a data root.",
        "sap-vision import sroie downloads/sroie data --domain receipts",
    )
    parser.add_argument("format", choices=("adbuy", "funsd", "sroie"), help="format of the source")
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of the data set")
    parser.add_argument("out", type=Path, metavar="OUT", help="data root to write into")
    parser.add_argument(
        "--domain",
        metavar="D",
        help="domain to write (default: adbuys for adbuy, forms for funsd, receipts for sroie)",
    )
    parser.add_argument("--test-share", type=float, default=0.2, help="share of documents for the test split")
    parser.add_argument("--val-share", type=float, default=0.1, help="share of documents for the val split")


def _import(arguments: argparse.Namespace) -> int:
    from sap_vision_assets.defs.partitions import require_domain_name  # noqa: PLC0415
    from sap_vision_assets.documents import importers  # noqa: PLC0415

    convert: Callable[..., Any] = {
        "adbuy": importers.import_adbuy,
        "funsd": importers.import_funsd,
        "sroie": importers.import_sroie,
    }[arguments.format]
    domain = {"domain": require_domain_name(arguments.domain)} if arguments.domain else {}
    report = convert(
        arguments.source,
        arguments.out,
        test_share=arguments.test_share,
        val_share=arguments.val_share,
        **domain,
    )
    print(report.render(), end="")
    return 0


def _add_labels(commands: Any) -> None:
    parser = _add(
        commands,
        "labels",
        _labels,
        "List document types, purchase order subtypes, fields, and the ids of the token labels.",
        "sap-vision labels --json",
    )
    parser.add_argument("--json", action="store_true", help="the whole vocabulary as one JSON object")
    _add_vocabulary(parser)


def _labels(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict  # noqa: PLC0415

    from sap_vision_assets.vocabulary import load_vocabulary  # noqa: PLC0415

    vocabulary = load_vocabulary(_vocabulary_path(arguments))
    if arguments.json:
        print(
            json.dumps(
                {**asdict(vocabulary), "labels": vocabulary.labels, "digest": vocabulary.digest}, indent=1
            )
        )
        return 0
    for title, terms in (
        ("document types", vocabulary.doc_types),
        ("purchase order subtypes", vocabulary.po_subtypes),
        ("fields", vocabulary.fields),
    ):
        print(f"{title} ({len(terms)})")
        for index, term in enumerate(terms):
            ids = f"{1 + 2 * index}, {2 + 2 * index}" if title == "fields" else str(index)
            print(f"  {ids:<9}{term.name:<32}{term.sap:<24}{term.meaning}")
    print(f"token labels: {len(vocabulary.labels)}, 0 is O, a field's ids are those of its B- and I- label")
    return 0


def _add_run(commands: Any) -> None:
    parser = _add(
        commands,
        "run",
        _run,
        "Run the whole graph for one domain. What is up to date is not done again; the UI shows the runs.",
        "sap-vision run --data data --domain receipts --recipe demo_finetune",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data root, which the UI and the daemon take from then on (default: the setting, else "
        "$SAP_VISION_DATA)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="T",
        help="builtin, minilm, a directory or a hub name, of all shards from then on (default: the setting)",
    )
    _add_domain(parser, "whose model to make; others than general start from the promoted general model")
    parser.add_argument(
        "--recipe", metavar="R", help="training recipe (default: demo; demo_finetune for a domain)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="FIELD=VALUE",
        help="override a field of the recipe, such as max_steps=500; may be repeated",
    )
    _add_vocabulary(parser)


def _assignment(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _run(arguments: argparse.Namespace) -> int:
    from sap_vision_assets.defs.headless import run_graph  # noqa: PLC0415

    settings: dict[str, Any] = {}
    if arguments.vocabulary:
        settings["vocabulary_extension"] = str(arguments.vocabulary.absolute())
    training = dict(arguments.set) | ({"recipe": arguments.recipe} if arguments.recipe else {})
    run_graph(
        arguments.domain,
        data_root=arguments.data.absolute() if arguments.data else None,
        tokenizer=_tokenizer(arguments.tokenizer),
        settings=settings,
        training=training,
        show=lambda line: print(line, flush=True),
    )
    return _print_report(arguments.domain, as_json=False)


def _tokenizer(name: str | None) -> str | None:
    """A directory is meant from here, and settings count theirs from the home."""
    from sap_vision_assets.shards import BUILTIN, MINILM  # noqa: PLC0415

    is_directory = name is not None and name not in (BUILTIN, MINILM) and Path(name).is_dir()
    return str(Path(str(name)).absolute()) if is_directory else name


def _add_join(commands: Any) -> None:
    parser = _add(
        commands,
        "join",
        _join,
        "Train with `run` on another machine, as one of its num_nodes; ends when that training has.",
        "sap-vision join --domain receipts",
    )
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        metavar="DIR",
        help="the training's directory, as the first machine names it (default: below the artifact root)",
    )
    _add_domain(parser, "whose model is trained")
    parser.add_argument(
        "--wait-s", type=float, default=3600, metavar="S", help="seconds to wait for the first machine"
    )


def _join(arguments: argparse.Namespace) -> int:
    from sap_vision_assets.training import folders  # noqa: PLC0415
    from sap_vision_assets.training.joining import join  # noqa: PLC0415

    if arguments.directory and folders.finished_summary(arguments.directory) is not None:
        print(f"{arguments.directory}: the training has ended already")
        return 0
    stop = threading.Event()
    candidates = (lambda: [arguments.directory]) if arguments.directory else _trainings_of(arguments.domain)
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        join(
            candidates, wait_s=arguments.wait_s, on_line=lambda line: print(line, flush=True), stop_event=stop
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _trainings_of(domain: str) -> Callable[[], list[Path]]:
    from sap_vision_assets.defs.resources import load_settings  # noqa: PLC0415
    from sap_vision_assets.defs.scopes import CHECKPOINT, scope_of  # noqa: PLC0415

    scope, partition = scope_of(domain)
    store = load_settings().store()
    return lambda: store.drafts(scope.key(CHECKPOINT), partition)


def _add_report(commands: Any) -> None:
    parser = _add(
        commands,
        "report",
        _report,
        "Print the figures of a domain's current model.",
        "sap-vision report --domain receipts --json",
    )
    _add_domain(parser, "whose model")
    parser.add_argument("--json", action="store_true", help="all figures, with the digests they belong to")


def _report(arguments: argparse.Namespace) -> int:
    return _print_report(arguments.domain, as_json=arguments.json)


def _print_report(domain: str, *, as_json: bool) -> int:
    from sap_vision_assets.defs.reporting import render, report  # noqa: PLC0415
    from sap_vision_assets.defs.resources import load_settings  # noqa: PLC0415

    record = report(load_settings(), domain)
    print(json.dumps(record, indent=1) if as_json else render(record))
    return 0


def _add_predict(commands: Any) -> None:
    parser = _add(
        commands,
        "predict",
        _predict,
        "Read one page with the promoted model: document type, subtype, fields, line items.",
        "sap-vision predict page.json --domain receipts",
    )
    parser.add_argument(
        "page", type=Path, metavar="FILE", help="JSON with image_path, words, boxes, width, height"
    )
    parser.add_argument("--image", type=Path, help="the page's image, instead of image_path")
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="a released folder, instead of the promoted model"
    )
    parser.add_argument("--variant", choices=("fp32", "int8"), default="fp32")
    _add_domain(parser, "whose promoted model")


def _predict(arguments: argparse.Namespace) -> int:
    from sap_vision_assets.inference import predict_page  # noqa: PLC0415

    release = arguments.model or _promoted_folder(arguments.domain)
    answer = predict_page(release, arguments.page, image=arguments.image, variant=arguments.variant)
    print(json.dumps(answer, indent=1, ensure_ascii=False))
    return 0


def _promoted_folder(domain: str) -> Path:
    from sap_vision_assets.defs.resources import load_settings  # noqa: PLC0415
    from sap_vision_assets.defs.scopes import PROMOTED_MODEL, scope_of  # noqa: PLC0415

    scope, partition = scope_of(domain)
    promoted = load_settings().store().current(scope.key(PROMOTED_MODEL), partition)
    if promoted is None:
        raise InputError(
            f"{domain}: no model is promoted yet; run the graph first, or name a folder with --model"
        )
    promoted.verify()
    return promoted.path


def _add_ui(commands: Any) -> None:
    parser = _add(
        commands,
        "ui",
        _ui,
        "Serve the Dagster UI, with its daemon, on the state that `run` writes.",
        "sap-vision ui --port 3000",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=3000)


def _ui(arguments: argparse.Namespace) -> int:
    from sap_vision_assets.defs.headless import serve  # noqa: PLC0415

    return serve(arguments.host, arguments.port)


if __name__ == "__main__":
    sys.exit(main())
