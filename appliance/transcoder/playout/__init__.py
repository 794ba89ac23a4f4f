"""Playing files and live streams one after the other as one continuous stream."""
