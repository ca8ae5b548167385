"""What the paper claims of edits, and whether it holds in a run."""

from __future__ import annotations

from srlvae.report.editing import BUDGETS, Run

# What the paper reports for PhotoGuard: FID 221.1 to 68.42, and CLIP-I 0.8832 afterwards (Lee et al. 2025).
FACTOR, CLIP_I = 3.2, 0.88
# White-box attacks are to keep at most this share of the distance.
WHITE_BOX = 0.5


def verdicts(run: Run) -> list[tuple[bool, str]]:
    """What the paper claims, line by line: whether it holds in this run, and the numbers."""
    key, found = f"{run.network}_frechet", _clean_verdicts(run)
    for attack, eps in dict.fromkeys((r["attack"], r["eps"]) for r in run.result["rows"] if r["made_on"] == "original"):
        if eps not in BUDGETS:
            continue
        by = {r["defence"]: r["measured"] for r in run.find(attack=attack, eps=eps, made_on="original")}
        if len(by) < 2:  # a run that was cut off between them
            continue
        none, own = by["none"], by["hardened"]
        factor = none[key] / own[key]
        found.append(
            (
                factor >= FACTOR and own[run.clip] > CLIP_I,
                f"{attack}, {eps}/255, transfer: Fréchet distance {none[key]:.1f} → {own[key]:.1f}, a factor of {factor:.2f} "
                f"(wanted {FACTOR}); CLIP-I {none[run.clip]:.3f} → {own[run.clip]:.3f} (wanted above {CLIP_I})",
            )
        )
        for row in run.find(attack=attack, eps=eps, made_on="hardened"):
            share = row["measured"][key] / none[key]
            found.append(
                (
                    share <= WHITE_BOX,
                    f"{attack}, {eps}/255, white-box: {share:.0%} of the distance is left (wanted at most half)",
                )
            )
    return found + _purifier_verdicts(run, key)


def _clean_verdicts(run: Run) -> list[tuple[bool, str]]:
    before, after = (run.result["reconstruction"][name] for name in ("original", "hardened"))
    distance = f"{run.pairwise}_distance"
    found = [
        (
            after["psnr"] > before["psnr"] and after[distance] < before[distance],
            f"clean reconstruction: {before['psnr']:.2f} → {after['psnr']:.2f} dB, {run.pairwise} distance "
            f"{before[distance]:.3f} → {after[distance]:.3f} (wanted better)",
        )
    ]
    key, floor = f"{run.network}_frechet", run.result["floor"]["other noise"]
    for row in run.find(attack="none", defence="hardened"):
        moved = row["measured"][key]
        text = f"clean edits: {moved:.1f} from those of the original VAE, another draw of noise moves these by {floor[key]:.1f}"
        found.append((moved < floor[key], text))
    return found


def _purifier_verdicts(run: Run, key: str) -> list[tuple[bool, str]]:
    found = []
    for defence in run.defences():
        rows = [r for r in run.find(defence=defence, made_on="original") if r["eps"] in BUDGETS]
        if defence in ("none", "hardened") or not rows:
            continue
        own = [run.find(attack=r["attack"], eps=r["eps"], made_on="original", defence="hardened")[0] for r in rows]
        worse = [r["attack"] for r, h in zip(rows, own, strict=True) if r["measured"][key] < h["measured"][key]]
        text = (
            f"better than hardening on {', '.join(worse)}"
            if worse
            else f"hardening is at least as good on all {len(rows)} sets"
        )
        if cost := run.result["costs"].get("purifiers", {}).get(defence):
            text += f"; it takes {cost['seconds']:.2g} s an image, hardening none"
        found.append((not worse, f"{defence}: {text}"))
    return found
