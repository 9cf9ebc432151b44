"""How a plugin reaches workers of any kind: also those with another cloudgan, or with none.

Dask unpickles a plugin where it arrives. What cannot be unpickled there ends in the worker's log, all of it,
and Dask says nothing to the client. So what is sent is a piece of source text that every Python understands,
and with it the pickled plugin as bytes, which only a worker opens that has the right cloudgan.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any


def pack(
    kind: str, name: str, versions: Mapping[str, str], make: Callable[..., Any], *arguments: Any
) -> tuple[Any, ...]:
    """What `__reduce__` of a plugin returns, so that it arrives by `arrive`.

    Args:
        kind: Name of Dask's class that it is one of, `WorkerPlugin` or `NannyPlugin`.
        name: Its name.
        versions: Which "cloudgan" and "Python" open it.
        make: What makes it again; a function or class of a module.
        arguments: Of `make`.
    """
    space = {
        "source": inspect.getsource(arrive),
        "kind": kind,
        "name": name,
        "versions": dict(versions),
        "payload": pickle.dumps((make, arguments)),
    }
    return eval, ("[exec(source, s := {}), s['arrive'](kind, name, versions, payload)][-1]", space)


def arrive(kind, name, versions, payload):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D417, RUF100
    """Open a plugin on a worker, or make one that refuses; this runs as text, so it stands for itself.

    Args:
        kind: Name of Dask's class.
        name: Of the plugin.
        versions: Which "cloudgan" and "Python" open it.
        payload: The pickled plugin.
    """
    import logging
    import pickle
    import platform

    from distributed.diagnostics import plugin as classes

    own = {"Python": ".".join(platform.python_version_tuple()[:2]), "cloudgan": None}
    try:
        import cloudgan

        own["cloudgan"] = cloudgan.__version__
        differing = [what for what in own if own[what] != versions.get(what, own[what])]
        if not differing:
            make, arguments = pickle.loads(payload)  # noqa: S301 - of the run's client
            return make(*arguments)
    except Exception as error:
        if own["cloudgan"] is not None:
            refusal = f"cannot load cloudgan {own['cloudgan']} ({error}); mend its environment"
        else:
            refusal = f"has no cloudgan where the run began with {versions.get('cloudgan')}; give it the same"
    else:
        pairs = [f"{what} {own[what]} where the run began with {versions[what]}" for what in differing]
        refusal = f"has {' and '.join(pairs)}; give it the same"
    if kind == "WorkerPlugin":
        logging.getLogger("cloudgan").warning("this worker gets no units of %s: it %s", name, refusal)
    members = {"name": name, "refusal": refusal, "find_refusal": lambda self, device: self.refusal}
    return type("Refused", (getattr(classes, kind),), members)()
