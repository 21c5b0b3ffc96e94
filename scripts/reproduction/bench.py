"""The time of a training step with each variant beside the baseline's, one after the other so that a busy hour meets both."""
import json
import statistics


def time_steps(place, part, sweep, results):
    config = place.root / part.bench
    for variant in sweep.wanted:
        if results.has(variant, 0, sweep.digest(variant)) and not place.args.again:
            continue
        ratios, times = [], []
        for _ in range(part.rounds):
            baseline, own = (step_seconds(place, part, sweep, config, name) for name in (part.baseline, variant))
            ratios.append(own / baseline)
            times.append(own)
        results.add(variant, 0, sweep.digest(variant), place.commit(), {
            "bench.ratio": round(statistics.median(ratios), 4), "bench.least": round(min(ratios), 4),
            "bench.largest": round(max(ratios), 4), "bench.step_ms": round(1e3 * statistics.median(times), 1)})
        results.save(list(sweep.json["variants"]))


def step_seconds(place, part, sweep, config, variant):
    changes = sweep.variants[variant]
    file = place.runs / "bench.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"base": str(config), **changes}))
    return place.sluice_json("bench", file, *part.timing, *part.set_words())["step_seconds"]
