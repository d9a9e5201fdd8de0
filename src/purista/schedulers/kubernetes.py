"""Kubernetes: a batch/v1 CronJob for each line. Its Jobs send the trigger and end; no run lives in them.

Needs Kubernetes 1.27 or later: ``spec.timeZone``, and the label from which a Job's slot is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from textwrap import indent
from typing import Any, Final

from pydantic import Field

from purista.clockchange import Timed
from purista.compiling import Artifact, Placed, Request, accepted_text, timing_of
from purista.contract import Schedule
from purista.cover import Cover, Line, Uncovered, cover
from purista.dialect import ClockWindow, Dialect, Reading, clock_windows
from purista.expression import Cron
from purista.naming import NameRule
from purista.portability import (
    CapabilityTable,
    Finding,
    by_ingress,
    by_none,
    ingress_cells,
    missed_finding,
    native,
)
from purista.sender import SEND, WAIT, jitter_of, try_seconds, wait_offset
from purista.settings import Settings
from purista.spacing import is_even, least_gap
from purista.turnover import Horizon

DIALECT: Final = Dialect(
    day_rule="or", dst_gap="skip", dst_overlap="both", wildcard="both", odd_changes=False
)
"""robfig/cron v3 as the CronJob controller calls it; recorded in tests/oracles, asked in the tests."""

READING: Final = Reading(
    day_rule="or",
    refused=frozenset({"L", "L-n", "W", "LW", "#", "#L"}),
    dst_gap="skip",
    dst_overlap="both",
    wildcard="both",
)
"""What ``kubectl apply`` makes of a text as it stands."""

CRONJOB: Final = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"
_IN_UTC: Final = replace(DIALECT, zones=frozenset({"UTC"}))

ENGINE: Final = "experiment: robfig/cron 3.0.1, tests/test_schedulers_kubernetes.py"

CAPABILITIES: Final = CapabilityTable(
    {
        **ingress_cells(),
        "expression=cron": native("spec.schedule, in lists of numbers", ENGINE),
        "expression=cron with L": by_ingress("days 28 to 31; the others are dropped", ENGINE),
        "expression=cron with W": by_ingress("the days around it; the others are dropped", ENGINE),
        "expression=cron with #": by_ingress("every such weekday; the others are dropped", ENGINE),
        "expression=cron with seconds": by_none("its lines name minutes", CRONJOB),
        "expression=day rule or": native("both day fields in one line mean either", ENGINE),
        "expression=day rule and": by_ingress("one day field; the others are dropped", ENGINE),
        "expression=every": by_ingress("a line in UTC that fires at all of its times", ENGINE),
        "expression=once": by_ingress("a dated line; other years are dropped", ENGINE),
        "timezone": native(
            "spec.timeZone; lines in UTC where the engine errs in a zone: days without a midnight, "
            "changes within an hour",
            ENGINE,
        ),
        "dst_gap=skip": native("a time that does not exist is skipped", ENGINE),
        "dst_gap=next": by_ingress("a further line at the end of the gap", ENGINE),
        "dst_gap=shift": by_ingress("a further line at the shifted time", ENGINE),
        "dst_overlap=first": by_ingress("it fires both times; the second is dropped", ENGINE),
        "dst_overlap=last": by_ingress("it fires both times; the first is dropped", ENGINE),
        "dst_overlap=both": native("it fires both times", ENGINE),
        "start_at": by_ingress("triggers before it are dropped", CRONJOB),
        "end_at": by_ingress("triggers after it are dropped", CRONJOB),
        "exclude": by_ingress("triggers of excluded days are dropped", CRONJOB),
        "jitter": native("the Job waits before it sends, as long for a slot at each try", CRONJOB),
        "enabled=false": native("spec.suspend", CRONJOB),
        "concurrency_policy=allow": native("concurrencyPolicy: Allow", CRONJOB),
        "concurrency_policy=forbid": by_ingress(
            "Forbid where no Job can still be there; it only sends, and the ingress knows the run",
            CRONJOB,
        ),
        "concurrency_policy=replace": by_ingress(
            "Replace where no Job can still be there; it only sends, and the ingress cancels the run",
            CRONJOB,
        ),
        "missed_run_policy=skip": native("startingDeadlineSeconds is the grace", CRONJOB),
        "missed_run_policy=runOnce": by_ingress(
            "it starts the latest missed slot where slots are evenly spaced; for others the ingress "
            "recovers with the next trigger (recovery = 'ingress')",
            "experiment: mostRecentScheduleTime, tests/test_schedulers_kubernetes.py",
        ),
        "missed_run_policy=catchUp": by_ingress(
            "the ingress recovers with the next trigger (recovery = 'ingress')", CRONJOB
        ),
        "catch_up_window": by_ingress("the ingress recovers within it", CRONJOB),
        "max_catch_up": by_ingress("the ingress recovers no more", CRONJOB),
        "description": native("an annotation", CRONJOB),
        "provider_hints": native("settings of this schedule", "docs/settings.md"),
        "nominal time": native("the slot's minute ends the Job's name", CRONJOB),
    }
)

LONGEST_NAME: Final = 52
"""https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#writing-a-cronjob-spec"""

LEAST_DEADLINE: Final = 10
"""Seconds; with less, the controller, which looks every 10 s, may never start a Job (same page)."""

LONGEST_ANNOTATIONS: Final = 262_144
"""Bytes of all annotations of an object (apimachinery, TotalAnnotationSizeLimitB)."""


_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names"""


class LabelRule(NameRule):
    """A name that is a DNS label (RFC 1123), which is what the hostname of a Pod has to be.

    It does not end like the name of a further line of a schedule, ``-2``; ``x`` is put behind it then.
    """

    def plain(self, schedule_id: str) -> str:
        """Return an id as a label, however long."""
        text = NameRule.plain(self, schedule_id)
        return f"{text}x" if _ENDS_LIKE_NO_NAME.search(text) else text


class SecretKey(Settings):
    """A key of a Secret in the namespace: a reference, never the value."""

    name: str = Field(pattern=_SUBDOMAIN, max_length=253)
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$")


class KubernetesSettings(Settings):
    """The table ``[kubernetes]``.

    ``image`` holds a POSIX shell, ``date`` and ``curl``. ``bearer`` is the Secret whose value the
    ingress takes as a bearer token.
    """

    namespace: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", examples=["billing"])
    image: str = Field(min_length=1, pattern=r"^\S+$", examples=["curlimages/curl:8.17.0"])
    service_account: str | None = Field(None, pattern=_SUBDOMAIN, max_length=253)
    bearer: SecretKey | None = None


class Kubernetes:
    """The scheduler ``kubernetes``."""

    name = "kubernetes"
    title = "Kubernetes"
    capabilities = CAPABILITIES
    dialect = DIALECT
    reading = READING
    settings = KubernetesSettings
    sample: Mapping[str, Any] = {"namespace": "billing", "image": "curlimages/curl:8.17.0"}
    most = None
    names = LabelRule(longest=LONGEST_NAME, others=re.compile(r"[^a-z0-9-]"), lower=True, room=3)

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, or why there are none."""
        dialect = _IN_UTC if is_misread(schedule, request.horizon) else DIALECT
        return cover(
            timing_of(schedule), dialect, request.horizon, exact_native=request.exact_native
        )

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        """Yield what else differs for a schedule."""
        schedule = placed.schedule
        if request.ingress.recovery != "ingress":
            yield from _recovery_findings(placed, request)
        size = len(schedule.description.encode())
        if size > LONGEST_ANNOTATIONS - 4096:
            yield Finding(
                code="limit-annotations",
                schedule_id=schedule.id,
                option="description",
                message=f"its description has {size} bytes; annotations hold {LONGEST_ANNOTATIONS}",
                example="the API server refuses the object",
                remedy="shorten it",
                source=CRONJOB,
                leaves_out=True,
            )

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        """Yield a YAML file for each schedule, with a CronJob for each of its lines."""
        for each in placed:
            yield Artifact(f"{each.name}.yaml", "---\n".join(cronjob_texts(each, request)))


SCHEDULER: Final = Kubernetes()


def cronjob_texts(placed: Placed, request: Request) -> Iterator[str]:
    """Yield a CronJob for each line of a schedule, as YAML."""
    for number, line in enumerate(placed.cover.lines, 1):
        yield _cronjob(placed, line, number, request)


def is_misread(schedule: Timed, horizon: Horizon) -> bool:
    """Whether lines in the schedule's own zone would miss times of it, so that lines in UTC are needed.

    robfig/cron looks for a day that matches from midnight to midnight. East of Greenwich it goes back
    into the day before where there is no midnight, and so past the day: ``0 12 * * 5`` in Cairo does not
    fire on 2027-04-30, and a dated line for a time that a gap moves would not either. It looks for an
    hour from one to the next, and so past what is left of one that begins again in its midst.
    """
    cron, windows = (
        schedule.expression,
        clock_windows(schedule.timezone, horizon.start, horizon.end),
    )
    if not isinstance(cron, Cron) or not windows:
        return False
    if any(window.first.minute or window.end.minute for window in windows):
        return True
    is_dated = cron.is_fixed_time and schedule.dst_gap != "skip"
    looks_for_days = is_dated or cron.deciding_days != "none" or not cron.month.is_all
    return looks_for_days and any(map(_takes_midnight_in_the_east, windows))


def _takes_midnight_in_the_east(window: ClockWindow) -> bool:
    change, first, end = window
    if not change.change > timedelta(0) <= change.offset_before:
        return False
    return first.time() == time() or first.date() < (end - datetime.resolution).date()


def _recovery_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where Kubernetes does not start what was missed."""
    schedule = placed.schedule
    policy = schedule.missed_run_policy
    option = f"missed_run_policy={policy}"
    if policy == "skip":
        return
    if policy == "runOnce":
        if _recovers(placed, request):
            return
        message = "it may not start the latest missed slot"
        if placed.sends_extra or len(placed.cover.lines) > 1:
            message = "it starts the latest slot of a line, which may be one that the ingress drops"
    else:
        message = "it starts the latest missed slot at most, and no other"
    yield missed_finding(
        schedule,
        request.horizon.start,
        message,
        CAPABILITIES[option].source,
    )


def _recovers(placed: Placed, request: Request) -> bool:
    """Whether Kubernetes itself starts the latest missed slot, and no other."""
    single = not placed.sends_extra and len(placed.cover.lines) == 1
    return single and is_even(placed.schedule, request.horizon)


def _cronjob(placed: Placed, line: Line, number: int, request: Request) -> str:
    schedule, settings = placed.schedule, placed.settings
    assert isinstance(settings, KubernetesSettings)
    name = placed.name if number == 1 else f"{placed.name}-{number}"
    jitter = jitter_of(schedule, request.horizon)
    tries = try_seconds(schedule)
    seconds = tries + int(jitter.total_seconds()) + 60
    description = schedule.description
    return _CRONJOB % {
        "name": _text(name),
        "namespace": _text(settings.namespace),
        "id": _text(schedule.id),
        "fingerprint": _text(placed.fingerprint),
        "description": _optional("    purista.dev/description: %s\n", description),
        "accepted": _optional("    purista.dev/accepted: %s\n", accepted_text(placed)),
        "schedule": _text(cron_text(line)),
        "zone": _text(line.timezone),
        "policy": _policy(placed, seconds, request.horizon),
        "deadline": _deadline_text(schedule),
        "suspend": "false" if schedule.enabled else "true",
        "seconds": seconds,
        "account": _optional("          serviceAccountName: %s\n", settings.service_account or ""),
        "image": _text(settings.image),
        "url": _text(_literal(request.ingress.triggers_url)),
        "source": _text(f"kubernetes/{settings.namespace}/{name}"),
        "tries": tries,
        "jitter": int(jitter.total_seconds()),
        "offset": wait_offset(schedule.id, jitter),
        "bearer": _bearer(settings.bearer),
        "script": _SCRIPT,
    }


def _policy(placed: Placed, seconds: int, horizon: Horizon) -> str:
    """Return Kubernetes' own policy where no Job of an earlier slot can be there.

    A Job only sends: where it might still try when the next slot comes, Forbid would lose that slot, and
    Replace the earlier one. Where triggers are sent that are dropped, rule R10 of supersets forbids both.
    """
    alone = not placed.sends_extra and len(placed.cover.lines) == 1
    if alone and timedelta(seconds=seconds) < least_gap(placed.schedule, horizon):
        return str(placed.schedule.concurrency_policy).capitalize()
    return "Allow"


def cron_text(line: Line) -> str:
    """Return a line as robfig/cron reads it; its day fields, where both restrict, mean either."""
    return line.cron.canonical


def _deadline_text(schedule: Schedule) -> str:
    """Return until when a slot is started late; it says then which it is, so that none is mistaken."""
    if schedule.missed_run_policy == "runOnce":
        return ""
    late = schedule.misfire_grace
    if schedule.missed_run_policy == "catchUp":
        late = schedule.catch_up_window
    return f"  startingDeadlineSeconds: {max(int(late.total_seconds()), LEAST_DEADLINE)}\n"


def _bearer(secret: SecretKey | None) -> str:
    if secret is None:
        return ""
    reference = f"{{name: {_text(secret.name)}, key: {_text(secret.key)}}}"
    return f"""\
                - name: PURISTA_BEARER
                  valueFrom: {{secretKeyRef: {reference}}}
"""


def _literal(text: str) -> str:
    """Return a text of which Kubernetes makes that text: it reads ``$$`` as ``$`` and ``$(X)`` as X.

    https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    return text.replace("$", "$$")


def _optional(form: str, value: str) -> str:
    return form % _text(value) if value else ""


_ENDS_LIKE_NO_NAME: Final = re.compile(r"-(\d{1,3})?$")
_SLOT: Final = """\
set -eu
now=$(date +%s)
slot=${JOB_NAME##*-}
case "$slot" in
  "" | *[!0-9]* | 0*) slot=0 ;;
  *) [ "${#slot}" -le 9 ] && slot=$((slot * 60)) || slot=0 ;;
esac
if [ "$slot" -gt $((now - 63072000)) ]; then
  time=$(date -u -d "@$slot" +%Y-%m-%dT%H:%M:%SZ)
WAIT
else
  time= manual=true
fi
"""
"""A Job's name ends with the slot, in minutes since 1970; that of one which a person made with
``kubectl create job --from`` ends with anything, such as a day: 20270101 would be a slot of 2008."""
_SCRIPT: Final = indent(
    (_SLOT.replace("WAIT\n", indent(WAIT, "  ")) + SEND).replace("$$", "$$$$"), " " * 18
)
"""Kubernetes reads ``$$`` in arguments as ``$``, and leaves references alone that are none of its own."""

_CRONJOB: Final = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: %(name)s
  namespace: %(namespace)s
  labels:
    app.kubernetes.io/managed-by: purista
  annotations:
    purista.dev/schedule: %(id)s
    purista.dev/fingerprint: %(fingerprint)s
%(description)s%(accepted)s\
spec:
  schedule: %(schedule)s
  timeZone: %(zone)s
  concurrencyPolicy: %(policy)s
%(deadline)s\
  suspend: %(suspend)s
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    metadata:
      labels:
        app.kubernetes.io/managed-by: purista
    spec:
      backoffLimit: 3
      activeDeadlineSeconds: %(seconds)d
      ttlSecondsAfterFinished: 86400
      template:
        metadata:
          labels:
            app.kubernetes.io/managed-by: purista
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
%(account)s\
          containers:
            - name: trigger
              image: %(image)s
              command: [sh, -c]
              args:
                - |
%(script)s\
              env:
                - name: JOB_NAME
                  valueFrom:
                    fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}
                - name: PURISTA_URL
                  value: %(url)s
                - name: PURISTA_SOURCE
                  value: %(source)s
                - name: PURISTA_SCHEDULE
                  value: %(id)s
                - name: PURISTA_FINGERPRINT
                  value: %(fingerprint)s
                - name: PURISTA_TRY_SECONDS
                  value: "%(tries)d"
                - name: PURISTA_JITTER
                  value: "%(jitter)d"
                - name: PURISTA_OFFSET
                  value: "%(offset)d"
%(bearer)s\
              resources:
                requests: {cpu: 10m, memory: 16Mi}
                limits: {memory: 64Mi}
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                runAsNonRoot: true
                runAsUser: 65532
                capabilities: {drop: [ALL]}
"""


def _text(value: str) -> str:
    """Return a YAML scalar (https://yaml.org/spec/1.2.2/, section 5.7): JSON, but for its surrogates."""
    text = json.encoder.encode_basestring_ascii(value)
    return text if value.isascii() else _SURROGATES.sub(_code_point, text)


def _code_point(pair: re.Match[str]) -> str:
    high, low = int(pair[0][2:6], 16), int(pair[0][8:], 16)
    return f"\\U{0x10000 + (high - 0xD800 << 10) + low - 0xDC00:08x}"


_SURROGATES: Final = re.compile(r"\\ud[89ab]..\\ud[c-f]..")
