"""SNS refuses a text without words, as AWS does; stock ministack keeps it among the sent ones."""

from ministack.services import sns

_stock_publish = sns._publish


def publish(params):
    if sns._p(params, "PhoneNumber") and not sns._p(params, "Message"):
        return sns._error("InvalidParameter", "Invalid parameter: Empty message", 400)
    return _stock_publish(params)


def apply():
    sns._publish = publish
