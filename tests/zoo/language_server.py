"""The language server that editors use for YAML, as a program: it is asked what an editor would show.

It speaks the Language Server Protocol on its standard streams: JSON-RPC messages, each
behind a header with its length.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from tests.patience import EVENT_SECONDS, wait_for

# Where `make test-zoo` lets npm install it.
_MODULES = Path(__file__).resolve().parents[2] / "build" / "zoo" / "editor"
_PROGRAM = _MODULES / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
END = "|"


def has_language_server() -> bool:
    """Whether node is installed, and the language server in the folder of this checkout."""
    return shutil.which("node") is not None and _PROGRAM.is_file()


class LanguageServer:
    """One session. The schema is that of every document; nothing is fetched."""

    def __init__(self, schema: Path) -> None:
        self._schema = schema
        self._count = 0
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["node", str(_PROGRAM), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=self._read, daemon=True).start()
        capabilities = {
            "textDocument": {
                "completion": {"completionItem": {"documentationFormat": ["markdown"], "snippetSupport": True}}
            },
            "workspace": {"configuration": True},
        }
        self._ask("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities})
        self._tell("initialized", {})
        # It asks for its settings when it likes to, and knows no schema until then.
        wait_for(lambda: self.complaints("- no_such_key: 1\n"))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def complaints(self, text: str) -> list[str]:
        """What the editor underlines in a document, each with its line."""
        uri = self._open(text)
        while True:
            message = self._next()
            if message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == uri:
                found = message["params"]["diagnostics"]
                return [f"{one['range']['start']['line'] + 1}: {one['message']}" for one in found]

    def completions(self, text: str) -> dict[str, str]:
        """What the editor offers where `|` stands in the text, each with what is said about it."""
        before, _, after = text.partition(END)
        uri = self._open(before + after)
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        place = {"textDocument": {"uri": uri}, "position": {"line": line, "character": column}}
        answer = self._ask("textDocument/completion", place)
        items = answer["items"] if isinstance(answer, dict) else answer or []
        return {str(one["label"]): _text_of(one.get("documentation")) for one in items}

    def _open(self, text: str) -> str:
        self._count += 1
        uri = f"file:///playbooks/{self._count}.yaml"
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        return uri

    def _settings(self, section: str) -> Any:
        if section != "yaml":
            return {}
        return {
            "validate": True,
            "completion": True,
            "hover": True,
            "schemas": {self._schema.as_uri(): "*.yaml"},
            "schemaStore": {"enable": False},
            "customTags": ["!vault scalar"],
        }

    def _ask(self, method: str, parameters: dict[str, Any]) -> Any:
        self._count += 1
        number = self._count
        self._send({"id": number, "method": method, "params": parameters})
        while True:
            message = self._next()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def _tell(self, method: str, parameters: dict[str, Any]) -> None:
        self._send({"method": method, "params": parameters})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _next(self) -> dict[str, Any]:
        """The next message, after what the server wants to know of the editor was answered."""
        while True:
            message = self._messages.get(timeout=EVENT_SECONDS)
            if "method" not in message or "id" not in message:
                return message
            result: Any = None
            if message["method"] == "workspace/configuration":
                result = [self._settings(one.get("section", "")) for one in message["params"]["items"]]
            self._send({"id": message["id"], "result": result})

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while True:
            length = 0
            while (line := stream.readline().strip()) and line:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if not length:
                return
            self._messages.put(json.loads(stream.read(length)))


def _text_of(documentation: Any) -> str:
    return documentation.get("value", "") if isinstance(documentation, dict) else documentation or ""
