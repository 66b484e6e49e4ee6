"""What is printed once the stack is up: where it is, and lines to paste into another terminal."""

import shlex

from gateway.wiring.dev.place import Place
from gateway.wiring.dev.screen import Screen
from gateway.wiring.dev.stack import Stack


def lines(place: Place) -> list[str]:
    """Return shell lines that work in this order, the first one once in every terminal."""
    environment = place.shown(place.environment)
    return [
        f". {shlex.quote(environment)}",
        """echo 'hello, sealed world' | curl -H "$AUTH" -T - "$FILES/hello\"""",
        """curl -H "$AUTH" "$FILES/hello\"""",
        """curl -H "$AUTH" -r 7-12 "$FILES/hello\"""",
        """curl -H "$AUTH" "$FILES\"""",
        """curl -H "$AUTH" -X DELETE "$FILES/hello\"""",
        """curl "$URL/readyz\"""",
    ]


def say(screen: Screen, place: Place, stack: Stack) -> None:
    """Print it."""
    screen.title("It is running")
    screen.say(f"URL    {stack.url}")
    screen.say(f"token  {stack.token}")
    screen.say(f"logs   {place.shown(place.log('gateway'))}")
    screen.title("Try it, in another terminal")
    for line in lines(place):
        screen.copyable(line)
    screen.say()
    screen.say("Ctrl-C stops it and keeps everything.", "dim")
