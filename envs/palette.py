"""The colours and the letter size of every picture."""

INK, FAINT, RULE = "#22303c", "#7b8794", "#dfe4e8"
WANTED, UNWANTED = "#d1495b", "#a9b4bf"  # sounds that deserve a reply, and those that do not
ANSWER, ALARM = "#1f7a8c", "#e08e2b"  # replies that answer a cue, and those that answer nothing
FONT = 8.5  # points
