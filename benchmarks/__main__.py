"""`make bench`: every measurement, printed as a table and saved in benchmarks/results/foundations.json."""

from benchmarks import imports, precision, steps
from benchmarks.harness import save


def main():
    """Runs and prints."""
    rows = {}
    for part in (precision, imports, steps):
        for name, row in part.rows().items():
            rows[name] = row
            figures = [f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float)]
            print(f"{name}: {', '.join(figures)} (target {row.get('target', '-')})", flush=True)
    print(f"saved {save('foundations', rows)}")


main()
