"""The two ways in which data can be wrong. Both carry one sentence, meant for the person at the command line."""


class DataError(ValueError):
    """A data set that is missing, broken or misnamed: what was given, what was expected, what to do."""


class CaptionError(ValueError):
    """A caption that the vocabulary or the grammar does not know; names the word and the nearest known ones."""
