"""Selenium's driver for a Firefox, over Firefox's own Marionette port: Debian has no geckodriver."""

from __future__ import annotations

import json
import socket
from typing import Any

from selenium.webdriver import FirefoxOptions, Remote
from selenium.webdriver.remote.command import Command
from selenium.webdriver.remote.file_detector import UselessFileDetector

_WAIT_S = 120
_NAMES = {
    Command.NEW_SESSION: "WebDriver:NewSession",
    Command.QUIT: "WebDriver:DeleteSession",
    Command.GET: "WebDriver:Navigate",
    Command.FIND_ELEMENT: "WebDriver:FindElement",
    Command.FIND_ELEMENTS: "WebDriver:FindElements",
    Command.FIND_CHILD_ELEMENT: "WebDriver:FindElement",
    Command.FIND_CHILD_ELEMENTS: "WebDriver:FindElements",
    Command.W3C_GET_ACTIVE_ELEMENT: "WebDriver:GetActiveElement",
    Command.CLICK_ELEMENT: "WebDriver:ElementClick",
    Command.CLEAR_ELEMENT: "WebDriver:ElementClear",
    Command.SEND_KEYS_TO_ELEMENT: "WebDriver:ElementSendKeys",
    Command.GET_ELEMENT_TEXT: "WebDriver:GetElementText",
    Command.GET_ELEMENT_ARIA_LABEL: "WebDriver:GetComputedLabel",
    Command.IS_ELEMENT_ENABLED: "WebDriver:IsElementEnabled",
    Command.W3C_EXECUTE_SCRIPT: "WebDriver:ExecuteScript",
    Command.W3C_GET_ALERT_TEXT: "WebDriver:GetAlertText",
    Command.W3C_ACCEPT_ALERT: "WebDriver:AcceptAlert",
    Command.W3C_ACTIONS: "WebDriver:PerformActions",
    Command.SET_WINDOW_RECT: "WebDriver:SetWindowRect",
}


class Marionette:
    """A connection to Firefox, in place of Selenium's connection to a driver."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_WAIT_S)
        self._stream = self._socket.makefile("rb")
        self._sent = 0
        self._receive()  # its greeting

    def execute(self, command: str, params: dict[str, Any]) -> dict[str, Any]:
        """Runs a command of Selenium's. Raises KeyError for a command that is not in _NAMES."""
        own = {name: value for name, value in params.items() if name != "sessionId"}
        if command == Command.NEW_SESSION:
            own = own["capabilities"]["alwaysMatch"]
        elif command == Command.W3C_EXECUTE_SCRIPT:
            own["newSandbox"] = False
        elif command in (Command.FIND_CHILD_ELEMENT, Command.FIND_CHILD_ELEMENTS):
            own["element"] = own.pop("id")
        error, result = self.call(_NAMES[command], own)
        if error:
            return {"status": error["error"], "value": error}
        is_wrapped = isinstance(result, dict) and set(result) == {"value"}
        return {"value": result["value"] if is_wrapped else result}

    def call(self, name: str, params: dict[str, Any]) -> tuple[Any, Any]:
        """Runs a command of Marionette's. Returns its error and its result."""
        self._sent += 1
        message = json.dumps([0, self._sent, name, params]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, number, error, result = self._receive()
        assert number == self._sent
        return error, result

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _receive(self) -> Any:
        """A message is its length, a colon, and JSON. Raises ConnectionError."""
        length = b""
        while not length.endswith(b":"):
            if not (byte := self._stream.read(1)):
                raise ConnectionError("Firefox has closed its Marionette port.")
            length += byte
        return json.loads(self._stream.read(int(length[:-1])))


class FirefoxDriver(Remote):
    def __init__(self, port: int) -> None:
        self._marionette = Marionette(port)
        super().__init__(self._marionette, options=FirefoxOptions(), file_detector=UselessFileDetector())  # type: ignore[arg-type]

    def in_chrome(self, script: str, *arguments: Any) -> Any:
        """Runs JavaScript with the rights of the browser itself."""
        self._marionette.call("Marionette:SetContext", {"value": "chrome"})
        try:
            return self.execute_script(script, *arguments)
        finally:
            self._marionette.call("Marionette:SetContext", {"value": "content"})
