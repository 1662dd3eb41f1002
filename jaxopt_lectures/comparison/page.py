"""stub"""


def html(r):
    return ""
