"""The calendar model as an `Architecture`."""

from mechfourier.models.architectures import Architecture

RECORD = Architecture(
    name="calendar",
    title="calendar arithmetic in words (Qwen3 architecture)",
    config_key="mechfourier_training",
    recognise="mechfourier.toys.calendar.rows:reads_the_calendar",
    rows="mechfourier.toys.calendar.rows:rows",
    text="mechfourier.toys.calendar.text:held_out_text",
    train="mechfourier.toys.calendar.commands:train",
)
