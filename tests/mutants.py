"""Guards taken away one by one: `make mutants` lists those that no test misses.

Each mutant is the project with one piece of text replaced, in a folder of its own; the
tests named for it must turn red. Names of mutants say what is lost, after the rule.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".status-engine", "target", "__pycache__", ".*_cache"
)
AT_ONCE = 2

INTERVALS = "dbt/macros/intervals.sql"
BUSINESS_TIME = "dbt/macros/business_time.sql"
VIOLATIONS = "dbt/models/sla/stored/workflow_violations.sql"
STAGING = "dbt/macros/staging.sql"
BUILDS = "dbt/macros/builds.sql"
CUTS = "dbt/macros/cuts.sql"
CLOCK = "dbt/macros/clock.sql"
COUNTS = "dbt/models/sla/stored/sla_daily_counts.sql"
PINNED = "dbt/models/building/pinned_transitions.sql"
TOUCHED = "dbt/models/building/touched_entities.sql"
CURRENT = "dbt/models/sla/served/entity_current_status.sql"
FUNCTION = "dbt/macros/postgres.sql"
RESTATED = "dbt/models/sla/stored/restatements.sql"
TRAIL = "dbt/models/sla/served/audit_trail.sql"
SWAP = "dagster_project/swap.py"
UNCHANGED = "dagster_project/unchanged.py"
GUARD = "dagster_project/guard.py"
DEFINITIONS = "dagster_project/definitions.py"
OPENING = "ingest/configuration/calendars.py"
WHAT_IF = "dbt/macros/what_if.sql"
WHAT_IF_TESTS = "tests/dagster_project/test_what_if.py"
MIGRATIONS = "ingest/store/migrations/__init__.py"
EMBEDDED = "ingest/store/embedded.py"
DATABASE = "ingest/store/database.py"
COMMANDS = "dagster_project/cli/servers.py"
YAML = "ingest/configuration/yaml_files.py"
MAPPING = "ingest/files/mapping.py"
FUNCTIONS = "ingest/store/functions"

INBOX = "ingest/inbox.py"
SHELVES = "ingest/shelves.py"
PARQUET = "ingest/files/parquet.py"
XES = "ingest/files/xes.py"
WATCH = "ingest/watch.py"
FOLLOWING = "ingest/following.py"
FROM_DATABASE = "ingest/files/from_database.py"
SENSORS = "dagster_project/sensors.py"

AUTOMATIC = "dbt/models/sla/served/automatic_transitions.sql"
MOVES = "ingest/automation.py"
RULES = "ingest/configuration/rule_checks.py"

UNIT = "tests/dbt/test_unit_tests.py"
AUTOMATION = "tests/dbt/test_automatic_transitions.py"
PIPELINE_TESTS = "tests/dagster_project/test_pipeline_alerts.py"
HEALTH_TESTS = "tests/dagster_project/test_health.py"
HISTORIES = "tests/dbt/test_histories.py"
CONFIGURATION = "tests/dbt/test_configuration.py"
CUTS_TESTS = "tests/dbt/test_clock_and_cuts.py"
BUILD_TESTS = "tests/dbt/test_builds.py"
GROWTH = "tests/dbt/test_growth.py"
RESTATEMENTS = "tests/dbt/test_restatements.py"
UNCHANGED_TESTS = "tests/dagster_project/test_unchanged.py"
VERIFYING = "tests/dagster_project/test_verifications.py"
RETENTION_TESTS = "tests/dagster_project/test_retention.py"
PUBLISHING = "tests/dagster_project/test_publish.py"
WEB = "tests/dagster_project/test_web.py"
DEFINITIONS_TESTS = "tests/dagster_project/test_definitions.py"
TIME = "tests/dbt/test_business_time.py"
VECTORS = "tests/dbt/test_deadline_vectors.py"
RECORDING = "tests/ingest/test_record.py"
UPGRADES = "tests/upgrades/test_upgrades.py"
MARKS = "tests/upgrades/test_marks.py"
SEARCH_PATH_TESTS = "tests/dbt/test_search_path.py"
DATABASE_TESTS = "tests/ingest/test_database.py"
SETTINGS = "tests/dagster_project/test_settings.py"
TERMINAL = "tests/dagster_project/test_terminal.py"
YAML_TESTS = "tests/ingest/test_yaml_files.py"
MAPPING_TESTS = "tests/ingest/test_mapping.py"
AUDIT_TRAIL = "tests/dbt/test_audit_entries.py"
AUDIT_LOGS = "tests/ingest/test_audit_logs.py"
INBOX_TESTS = "tests/ingest/test_inbox.py"
PARQUET_TESTS = "tests/ingest/test_parquet.py"
WATCH_TESTS = "tests/ingest/test_watch.py"
FOLLOWING_TESTS = "tests/ingest/test_following.py"
ARRIVALS = "tests/dagster_project/test_arrivals.py"
XES_TESTS = "tests/ingest/test_xes.py"


class Mutant(NamedTuple):
    """Text of a file that is replaced, and the tests that must find it."""

    name: str
    file: str
    old: str
    new: str
    tests: Sequence[str] = (UNIT, CONFIGURATION, HISTORIES)


# What readers of watermarks would do instead of S17.
NEWEST_BATCH = (
    'batch_id > (select max(batch_id) from {{ ref("stg_batches") }} '
    "where batch_cut <= {{ CUT }})"
)
NEWEST_INSTANT = (
    'created_at > (select max(created_at) from {{ ref("stg_transitions") }} '
    "where batch_cut <= {{ CUT }})"
)

MUTANTS = (
    Mutant(
        "watch: what commits late is behind the newest batch that was seen",
        WATCH,
        "gaps = position.seen.gaps()",
        "gaps = position.seen.gaps()[-1:]",
        (WATCH_TESTS,),
    ),
    Mutant(
        "watch: a cut takes along what was seen beyond it",
        WATCH,
        "where cut is null or cut > %(cut)s\norder by batch_id",
        "where false\norder by batch_id",
        (WATCH_TESTS,),
    ),
    Mutant(
        "sources: no overlap",
        FROM_DATABASE,
        "max(int(since.last) - overlap, -(2**63))",
        "max(int(since.last), -(2**63))",
        (FOLLOWING_TESTS,),
    ),
    Mutant(
        "sources: the overlap's rejects are kept at each reading",
        FOLLOWING,
        "return frozenset(digest for (digest,) in found)",
        "return frozenset(found and ())",
        (FOLLOWING_TESTS,),
    ),
    Mutant(
        "arrivals: a burst asks for a run at each tick",
        SENSORS,
        "if _is_at_work(instance, status_engine.name):",
        "if False:",
        (ARRIVALS,),
    ),
    Mutant(
        "S3: a self-transition restarts the clock",
        INTERVALS,
        "count(*) filter (where is_change) over entity",
        "count(*) over entity",
    ),
    Mutant(
        "S3: a stay ends with its last transition",
        INTERVALS,
        "lead(created_at) over entity as next_created_at",
        "lead(created_at, 2) over entity as next_created_at",
    ),
    Mutant(
        "S4: the last transition is the one that opened the stay",
        INTERVALS,
        "(array_agg(id) filter (where is_last))[1] as last_transition_id",
        "(array_agg(id) filter (where is_change))[1] as last_transition_id",
    ),
    Mutant(
        "S5: what came later is later",
        INTERVALS,
        "order by created_at, source_order, batch_id, batch_row\n    )",
        "order by batch_id, batch_row\n    )",
        (HISTORIES,),
    ),
    Mutant(
        "S2: what a source says of its order is passed over",
        INTERVALS,
        "order by created_at, source_order, batch_id, batch_row\n    )",
        "order by created_at, batch_id, batch_row\n    )",
        (HISTORIES,),
    ),
    Mutant(
        "S2: a row without an order is before all that have one",
        INTERVALS,
        "order by created_at, source_order, batch_id, batch_row\n    )",
        "order by created_at, source_order nulls first, batch_id, batch_row\n    )",
        (HISTORIES,),
    ),
    Mutant(
        "S5: stays that are no more stay",
        BUILDS,
        "            built.entity_type = touched.entity_type\n",
        "            false and built.entity_type = touched.entity_type\n",
        (HISTORIES,),
    ),
    Mutant(
        "S5: what stays counted before is counted twice",
        BUILDS,
        "        -1 as sign\n",
        "        0 as sign\n",
        (HISTORIES,),
    ),
    Mutant(
        "S5: new roles of users touch nothing",
        TOUCHED,
        "        where batch_cut > {{ previous }}\n",
        "        where false\n",
        (CONFIGURATION,),
    ),
    Mutant(
        "S5: a build reads what is above the newest built batch",
        INTERVALS,
        'where {{ is_after("batch_cut", cut) }}\n    union',
        f"where {NEWEST_BATCH.replace('CUT', 'cut')}\n    union",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S5: a build reads what is after the newest built instant",
        INTERVALS,
        'where {{ is_after("batch_cut", cut) }}\n    union',
        f"where {NEWEST_INSTANT.replace('CUT', 'cut')}\n    union",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S15: the clock of a session is not looked at",
        CLOCK,
        "            nullif(current_setting('status_engine.as_of', true), "
        "'')::timestamptz, now()",
        "            null::timestamptz, now()",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S16: what waits for a build is not seen",
        CURRENT,
        "            true as is_live\n        from\n",
        "            false as is_live\n        from\n",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S16: configuration that waits for a build is not seen",
        CURRENT,
        "        where {{ is_reconfigured }}\n",
        "        where false\n",
        (HISTORIES,),
    ),
    Mutant(
        "S16: what is built is seen beside what changed it",
        CURRENT,
        '                    and {{ is_after("later.batch_cut", built_cut()) }}\n',
        "                    and false\n",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S16: what waits is above the newest built batch",
        CURRENT,
        'where {{ is_after("batch_cut", built_cut()) }}\n            ) as unbuilt',
        f"where {NEWEST_BATCH.replace('CUT', 'built_cut()')}\n            ) as unbuilt",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S16: who reads what waits needs rights on more than is published",
        FUNCTION,
        "stable security definer",
        "stable",
        (BUILD_TESTS, "tests/dbt/test_rights.py"),
    ),
    Mutant(
        "S17: names change hands within a publication",
        SWAP,
        "    _wait_for_publications(connection)\n",
        "",
        (PUBLISHING,),
    ),
    Mutant(
        "S17: a cut that holds something new is taken for built",
        UNCHANGED,
        "and cut <= %(cut)s\n",
        "and cut < %(cut)s\n",
        (UNCHANGED_TESTS,),
    ),
    Mutant(
        "S17: a cut that was not tested is gone on from",
        UNCHANGED,
        "inner join sla.tested_cuts as tested on built.newest = tested.cut\n",
        "",
        (UNCHANGED_TESTS,),
    ),
    Mutant(
        "S17: a later cut is given up for an earlier one",
        UNCHANGED,
        "    and built.newest <= %(cut)s\n",
        "",
        (UNCHANGED_TESTS,),
    ),
    Mutant(
        "S5: what was made by other files, or changed, is gone on from",
        UNCHANGED,
        "known.fingerprint = %(fingerprint)s",
        "%(fingerprint)s is not null",
        (UNCHANGED_TESTS,),
    ),
    Mutant(
        "S5: what was built in part while files changed is gone on from",
        UNCHANGED,
        "        if not is_of_these_models(connection, project):\n",
        "        if False:\n",
        (UNCHANGED_TESTS,),
    ),
    Mutant(
        "S5: what was built in full while files changed is gone on from",
        "dagster_project/resources.py",
        "swap.note(connection, swap.NEXT, models)",
        "swap.note(connection, swap.NEXT, unchanged.models(DBT))",
        (UNCHANGED_TESTS,),
    ),
    Mutant(
        "S13: what a cut held from after its instant counts as not yet there",
        RESTATED,
        "when before.left_at is not null then before.verdict",
        "when before.left_at <= {{ instant }} then before.verdict",
        (RESTATEMENTS,),
    ),
    Mutant(
        "S17: each model reads the configuration that is there",
        CUTS,
        "({{ session_cut() }} is null or {{ batch_cut }} <= {{ session_cut() }})",
        "true",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S17: each model reads the transitions that are there",
        PINNED,
        "{{ session_cut() }} is not null",
        "false",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S17: each table is changed by itself",
        BUILDS,
        "{{ apply_changes(node) }}",
        "{{ apply_changes(node) }} commit; begin;",
        (BUILD_TESTS,),
    ),
    Mutant(
        "S6: visits are counted over all statuses",
        INTERVALS,
        "partition by entity_type, entity_id, status order by stay",
        "partition by entity_type, entity_id order by stay",
    ),
    Mutant(
        "S7: a version holds beyond the next one",
        STAGING,
        "        lead(created_at) over (\n"
        "            partition by workflow_key order by created_at, batch_id\n"
        "        ) as bound_until",
        "        null::timestamptz as bound_until",
    ),
    Mutant(
        "S7: a retired version judges those that are bound",
        STAGING,
        "    from workflows\n    where is_active\n",
        "    from workflows\n",
    ),
    Mutant(
        "S7: a retired workflow binds new entities",
        INTERVALS,
        "        select * from {{ configuration.versions }}\n        where is_active\n",
        "        select * from {{ configuration.versions }}\n",
    ),
    Mutant(
        "S7: a version comes into force a moment late",
        INTERVALS,
        "{{ instant }} >= {{ span }}_from",
        "{{ instant }} > {{ span }}_from",
    ),
    Mutant(
        "S7: a version lasts a moment too long",
        INTERVALS,
        "{{ instant }} < {{ span }}_until or",
        "{{ instant }} <= {{ span }}_until or",
    ),
    Mutant(
        "S8: history older than the configuration is under nothing",
        INTERVALS,
        "                and (versions.is_first or {{ is_in_force }})\n",
        "                and {{ is_in_force }}\n",
    ),
    Mutant(
        "S8: what was applied first competes with what is in force",
        INTERVALS,
        "case when {{ is_in_force }} then '-infinity' else versions.in_force_from end,",
        "versions.in_force_from,",
    ),
    Mutant(
        "S8: an entity between two workflows is under the first",
        INTERVALS,
        "                    or firsts.created_at < versions.in_force_from\n",
        "                    or true\n",
    ),
    Mutant(
        "S8: later versions hold for the time before",
        INTERVALS,
        "                and (versions.is_first or {{ is_in_force }})\n",
        "",
    ),
    Mutant(
        "S8: workflows applied later hold for the time before",
        INTERVALS,
        "case when {{ is_in_force }} then '-infinity' else versions.in_force_from end,",
        "case when {{ is_in_force }} then 1 else 2 end,",
    ),
    Mutant(
        "S8: another business entity's workflow binds",
        INTERVALS,
        "or firsts.business_entity_id = versions.business_entity_id",
        "or firsts.business_entity_id is not null",
    ),
    Mutant(
        "S8: conditions are not looked at",
        INTERVALS,
        "                and {{ json_contains(\n"
        "                    \"coalesce(firsts.business_context, '{}')\", "
        '"versions.conditions"\n'
        "                ) }}\n",
        "",
    ),
    Mutant(
        "S8: a business entity is not preferred",
        INTERVALS,
        "case when versions.business_entity_id is null then 1 else 0 end,",
        "",
    ),
    Mutant(
        "S8: fewer conditions win",
        INTERVALS,
        "versions.condition_count desc",
        "versions.condition_count",
    ),
    Mutant(
        "S8: the default is not preferred",
        INTERVALS,
        "            case when versions.is_default then 0 else 1 end,\n",
        "",
    ),
    Mutant(
        "S8: names are compared as people do",
        INTERVALS,
        'versions.workflow_name collate "C"',
        "lower(versions.workflow_name)",
    ),
    Mutant(
        "S9: a stay is under the version of its entity's beginning",
        INTERVALS,
        '{{ is_within("placed.entered_at", "versions.bound") }}',
        '{{ is_within("placed.entity_created_at", "versions.bound") }}',
    ),
    Mutant(
        "S9: a stay is under the calendar of its entity's beginning",
        INTERVALS,
        '{{ is_within("placed.entered_at", "calendars.in_force") }}',
        '{{ is_within("placed.entity_created_at", "calendars.in_force") }}',
    ),
    Mutant(
        "S9: a calendar holds from its application only",
        STAGING,
        "            then '-infinity'::timestamptz\n"
        "        else calendars.created_at\n",
        "            then calendars.created_at\n        else calendars.created_at\n",
    ),
    Mutant(
        "S9: a new calendar touches nothing that is built",
        INTERVALS,
        'where {{ is_after("calendars.batch_cut", cut) }}',
        "where false",
    ),
    Mutant(
        "S9: a new workflow version touches nothing that is built",
        INTERVALS,
        '            from {{ ref("stg_workflow_versions") }}\n'
        '            where {{ is_after("batch_cut", cut) }}\n',
        '            from {{ ref("stg_workflow_versions") }}\n'
        "            where false\n",
    ),
    Mutant(
        "S10: the first deadline given wins",
        INTERVALS,
        "timestamptz 'epoch' + place * interval '1 second', sla_deadline",
        "timestamptz 'epoch' - place * interval '1 second', sla_deadline",
    ),
    Mutant(
        "S10: a transition without a deadline takes it away",
        INTERVALS,
        "                ) filter (where sla_deadline is not null)\n",
        "                )\n",
    ),
    Mutant(
        "S10: a given deadline counts for nothing",
        INTERVALS,
        "                when explicit_deadline is not null then explicit_deadline\n",
        "",
    ),
    Mutant(
        "S10: an unbound entity has the deadline that is given",
        INTERVALS,
        "when workflow_id is null or is_final then null",
        "when is_final then null",
    ),
    Mutant(
        "S11: no hours wait for the opening",
        BUSINESS_TIME,
        "when {{ calendar_id }} is null or {{ hours_given }} = 0",
        "when {{ calendar_id }} is null",
        (TIME, VECTORS, HISTORIES),
    ),
    Mutant(
        "S11: hours that run out at closing time end at the next opening",
        BUSINESS_TIME,
        "width_bucket({{ clock }} - interval '1 microsecond', "
        "{{ page }}.business_clock)",
        "width_bucket({{ clock }}, {{ page }}.business_clock)",
        (VECTORS, TIME, HISTORIES),
    ),
    Mutant(
        "S11: the page of a clock is that of the microsecond itself",
        BUSINESS_TIME,
        "(({{ clock }} - interval '1 microsecond')::date - date '2000-01-01') >> 3",
        "({{ clock }}::date - date '2000-01-01') >> 3",
        (TIME, VECTORS, HISTORIES),
    ),
    Mutant(
        "S11: the clock runs while the calendar is closed",
        BUSINESS_TIME,
        "least({{ instant }} {{ in_utc() }}, {{ page }}.closes_at[{{ place }}])",
        "{{ instant }} {{ in_utc() }}",
        (TIME, VECTORS, HISTORIES),
    ),
    Mutant(
        "S11: business seconds are rounded",
        BUSINESS_TIME,
        "floor(extract(epoch from {{ later }} - {{ earlier }}))::bigint",
        "extract(epoch from {{ later }} - {{ earlier }})::bigint",
        (TIME, HISTORIES),
    ),
    Mutant(
        "S12: a deadline lies beyond the calendar",
        BUSINESS_TIME,
        "            <= {{ page }}.closes_at[{{ place }}] - "
        "{{ page }}.opens_at[{{ place }}]\n",
        "            is not null\n",
        (TIME, HISTORIES),
    ),
    Mutant(
        "S12: business time beyond the calendar is none",
        BUSINESS_TIME,
        "            and {{ instant }} {{ in_utc() }} <= {{ page }}.covers_until\n",
        "",
        (TIME, HISTORIES),
    ),
    Mutant(
        "S12: in a gap the offset after it applies, in a fold the first instant",
        OPENING,
        "min(early, late)",
        "max(early, late)",
        (TIME, VECTORS),
    ),
    Mutant(
        "S12: a skipped date has windows",
        OPENING,
        "if self._second(day, timedelta(0)) < self._second(day, DAY):",
        "if day:",
        (TIME, VECTORS),
    ),
    Mutant(
        "S12: windows on the day before a change of clocks have the offset before it",
        OPENING,
        "seconds[ahead] if today and tomorrow and ahead is not None else None",
        "seconds[ahead] if today and ahead is not None else None",
        ("tests/ingest/test_calendars.py",),
    ),
    Mutant(
        "S12: the night before the first day is left out",
        OPENING,
        "day = self.calendar.covers_from - 2 * DAY",
        "day = self.calendar.covers_from",
        (TIME, "tests/ingest/test_calendars.py"),
    ),
    Mutant(
        "S12: closed dates are open",
        OPENING,
        "        if day in self.closed_dates:\n            return ()\n",
        "",
        (VECTORS, TIME),
    ),
    Mutant(
        "S12: windows that overlap across a change of clocks count twice",
        OPENING,
        "opens and opens_at <= closes[-1]",
        "opens and opens_at == closes[-1]",
        (TIME, "tests/ingest/test_calendars.py"),
    ),
    Mutant(
        "S12: a window without end in its calendar is not reported",
        VIOLATIONS,
        "(id in (select first_transition_id from beyond)) as",
        "false as",
    ),
    Mutant(
        "S13: left in the microsecond of the deadline is breached",
        INTERVALS,
        "when left_at <= sla_deadline then 'met'",
        "when left_at < sla_deadline then 'met'",
    ),
    Mutant(
        "S13: left a microsecond after the deadline is neither",
        INTERVALS,
        "when left_at > sla_deadline then 'breached'",
        "when left_at > sla_deadline + interval '1 second' then 'breached'",
    ),
    Mutant(
        "S13: exactly at the deadline is overdue",
        INTERVALS,
        "sla_deadline < {{ instant }}",
        "sla_deadline <= {{ instant }}",
        (CUTS_TESTS, HISTORIES),
    ),
    Mutant(
        "S14: a final status has a deadline",
        INTERVALS,
        "when workflow_id is null or is_final then null",
        "when workflow_id is null then null",
    ),
    Mutant(
        "S19: an unknown status is not reported",
        VIOLATIONS,
        "(workflow_id is not null and step_id is null) as",
        "false as",
    ),
    Mutant(
        "S19: an unbound entity has unknown statuses",
        VIOLATIONS,
        "(workflow_id is not null and step_id is null) as",
        "(step_id is null) as",
    ),
    Mutant(
        "S19: a self-transition is illegal",
        VIOLATIONS,
        "            is_change\n            and previous_step_id is not null",
        "            previous_step_id is not null",
    ),
    Mutant(
        "S19: after an unknown status legality is judged",
        VIOLATIONS,
        "            and previous_step_id is not null\n"
        '            and not {{ json_contains("allowed_transitions", '
        '"to_jsonb(to_status)") }}\n',
        '            and not coalesce({{ json_contains("allowed_transitions", '
        '"to_jsonb(to_status)") }}, false)\n',
    ),
    Mutant(
        "S19: leaving a final status is merely illegal",
        VIOLATIONS,
        "case when previous_is_final then 'left_final' else 'illegal_transition' end",
        "'illegal_transition'",
    ),
    Mutant(
        "S19: a null from_status breaks the chain",
        VIOLATIONS,
        "from_status is not null and from_status is distinct from previous_status",
        "from_status is distinct from previous_status",
    ),
    Mutant(
        "S19: a first transition may come from anywhere",
        VIOLATIONS,
        "from_status is not null and from_status is distinct from previous_status",
        "from_status <> previous_status",
    ),
    Mutant(
        "S19: approvals are not missed",
        VIOLATIONS,
        "is_change and requires_approval and approver_id is null",
        "false",
    ),
    Mutant(
        "S19: a self-transition needs an approval",
        VIOLATIONS,
        "is_change and requires_approval and approver_id is null",
        "requires_approval and approver_id is null",
    ),
    Mutant(
        "S19: any role will do",
        VIOLATIONS,
        "is_change and requires_approval and is_known_approver and not has_role",
        "false",
    ),
    Mutant(
        "S19: an inactive user holds roles",
        VIOLATIONS,
        "        approvers.is_active\n        and {{",
        "        {{",
    ),
    Mutant(
        "S19: roles are those of today",
        VIOLATIONS,
        '            and {{ is_within("bound.created_at", "approvers.in_force") }}',
        "            and approvers.in_force_until is null",
    ),
    Mutant(
        "S19: who triggered it approves it, whoever is named",
        VIOLATIONS,
        "coalesce(bound.approved_by_user_id, bound.triggered_by_user_id::text)\n"
        "            as approver_id",
        "bound.triggered_by_user_id::text\n            as approver_id",
    ),
    Mutant(
        "S19: an unknown user is not reported",
        VIOLATIONS,
        "(is_unknown_trigger or is_unknown_approver) as",
        "false as",
    ),
    Mutant(
        "S19: an unknown approver is not reported",
        VIOLATIONS,
        "(is_unknown_trigger or is_unknown_approver) as",
        "is_unknown_trigger as",
    ),
    Mutant(
        "S19: an unknown business entity is not reported",
        VIOLATIONS,
        "        and entities.business_entity_id is null as is_unknown_business_entity",
        "        and false as is_unknown_business_entity",
    ),
    Mutant(
        "S19: a transition is judged by the version of its entity's beginning",
        VIOLATIONS,
        '{{ is_within("bound.created_at", "versions.bound") }}',
        '{{ is_within("bound.entity_created_at", "versions.bound") }}',
    ),
    Mutant(
        "S8: an entity without a workflow is not reported",
        VIOLATIONS,
        "place = 1 and workflow_key is null",
        "false",
    ),
    Mutant(
        "S10, S11: what is recorded live runs out in elapsed time",
        f"{FUNCTIONS}/deadline_of.sql",
        "case when named is not null then raw.calendar_at(named, entered_at) end",
        "null::uuid",
        (RECORDING, TIME),
    ),
    Mutant(
        "S11: in functions, hours at closing time end at the next opening",
        f"{FUNCTIONS}/business_deadline.sql",
        "                runs_out - interval '1 microsecond', p.business_clock",
        "                runs_out, p.business_clock",
        (TIME, VECTORS),
    ),
    Mutant(
        "S12: in functions, a deadline lies beyond the calendar",
        f"{FUNCTIONS}/business_deadline.sql",
        "            and due <= p.closes_at[place]\n",
        "",
        (TIME, VECTORS),
    ),
    Mutant(
        "S9: in functions, a calendar's newest version holds for all time",
        f"{FUNCTIONS}/calendar_at.sql",
        "            case when c.created_at <= instant then c.created_at end "
        "desc nulls last,\n            c.created_at\n",
        "            c.created_at desc\n",
        (RECORDING, TIME),
    ),
    Mutant(
        "upgrade: a function stays as another release had it",
        MIGRATIONS,
        "        if name in changed:\n",
        "        if name in changed and not applied:\n",
        (DATABASE_TESTS,),
    ),
    Mutant(
        "upgrade: functions are made before what their bodies name",
        MIGRATIONS,
        "TopologicalSorter(named).static_order()",
        "sorted(texts)",
        (DATABASE_TESTS,),
    ),
    Mutant(
        "upgrade: functions whose texts did not change are made anew",
        MIGRATIONS,
        "        if name in changed:\n",
        "        if changed:\n",
        (DATABASE_TESTS,),
    ),
    Mutant(
        "upgrade: what other models made is gone on from",
        UNCHANGED,
        "swap.models_of(connection) == models(project)",
        "True",
        (UPGRADES,),
    ),
    Mutant(
        "upgrade: keys that are no more are taken for other people's",
        "dagster_project/catalogue/made_by_others.sql",
        "    i.relname <> all(%(ours)s)\n",
        "    true\n",
        (MARKS,),
    ),
    Mutant(
        "upgrade: a server that can't be reached is started again",
        EMBEDDED,
        "            _require_stopped(place, binaries)\n",
        "",
        ("tests/ingest/test_embedded.py",),
    ),
    Mutant(
        "schemas: what no build marked is made anew",
        "dagster_project/catalogue/made_by_no_build.sql",
        "obj_description(n.oid, 'pg_namespace') is distinct from known.mark",
        "false",
        (MARKS,),
    ),
    Mutant(
        "schemas: what is empty is made anew, whosever it is",
        SWAP,
        '"may_be_empty": is_reserved(schema)',
        '"may_be_empty": True',
        (MARKS,),
    ),
    Mutant(
        "search_path: bodies of functions follow the session's",
        f"{FUNCTIONS}/record_transition.sql",
        "language plpgsql set search_path = pg_catalog, pg_temp as $$",
        "language plpgsql as $$",
        (SEARCH_PATH_TESTS,),
    ),
    Mutant(
        "Sessions: the client's encoding is what the environment says",
        DATABASE,
        '    "client_encoding": "UTF8",\n',
        '    "client_encoding": "LATIN1",\n',
        (SETTINGS,),
    ),
    Mutant(
        "Sessions: dates are spelled as the database says",
        DATABASE,
        '    "DateStyle": "ISO, MDY",\n',
        "",
        (SETTINGS,),
    ),
    Mutant(
        "Sessions: names are looked up where the database says",
        DATABASE,
        '    "search_path": "pg_catalog",\n',
        '    "search_path": "evil, pg_catalog",\n',
        (SETTINGS,),
    ),
    Mutant(
        "Sessions: dbt's are as the database says",
        "dagster_project/builds.py",
        "            database.session_options(builder),\n",
        "",
        (SETTINGS,),
    ),
    Mutant(
        "Sessions: a database in any encoding will do",
        DATABASE,
        'if encoding != "UTF8":',
        'if encoding == "":',
        (SETTINGS,),
    ),
    Mutant(
        "Locks: two have one number",
        "ingest/store/locks.py",
        "INBOX = 7_361_820_150",
        "INBOX = 7_361_820_149",
        ("tests/ingest/test_locks.py", "tests/dagster_project/test_beside.py"),
    ),
    Mutant(
        "Growth: rows come by an anti-join with a table that grows under it",
        BUILDS,
        """            on conflict ({{ key | join(", ") }}) do nothing
""",
        """            as changed where not exists (
                select from {{ built }} as built where
                {%- for name in key %}
                changed.{{ name }} = built.{{ name }}
                {%- if not loop.last %} and {% endif %}
                {%- endfor %}
            )
""",
        (GROWTH,),
    ),
    Mutant(
        "Growth: tables that outgrew what is known of them are not analyzed",
        BUILDS,
        "            {% if outgrown -%}",
        "            {% if false -%}",
        (GROWTH,),
    ),
    Mutant(
        "Growth: calendars are not analyzed when they are applied",
        "ingest/configuration/workflows.py",
        "        if any(version.opening for version in changed):",
        "        if False:",
        (GROWTH,),
    ),
    Mutant(
        "Growth: a build is silent while a model is built",
        "dagster_project/assets/derived.py",
        "partial(narrate, context)",
        "print",
        ("tests/dagster_project/test_progress.py",),
    ),
    Mutant(
        "Publishing: names are those of before a change of configuration",
        "dagster_project/publish.py",
        "(table.is_by_entity and row == (False,))",
        "table.is_by_entity",
        (PUBLISHING,),
    ),
    Mutant(
        "Publishing: a key that came with repeated rows is missed",
        "dagster_project/publish.py",
        "or exists (\n                select from raw.entity_keys",
        "or false and exists (\n                select from raw.entity_keys",
        (PUBLISHING,),
    ),
    Mutant(
        "Audit logs: an entry exactly two seconds before is not beside its transition",
        TRAIL,
        "bound.created_at - {{ moment }} <= entries",
        "bound.created_at - {{ moment }} < entries",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "Audit logs: an entry exactly two seconds after is not beside its transition",
        TRAIL,
        "bound.created_at + {{ moment }} >= entries",
        "bound.created_at + {{ moment }} > entries",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "Audit logs: entries of other users are beside a transition",
        TRAIL,
        "        and bound.triggered_by_user_id is not distinct from "
        "entries.triggered_by_user_id\n",
        "",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "Audit logs: what nobody is named for has no entries",
        TRAIL,
        "bound.triggered_by_user_id is not distinct from",
        "bound.triggered_by_user_id =",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "Audit logs: entries of other entity types are beside a transition",
        TRAIL,
        "        bound.entity_type = entries.entity_type\n        and bound.entity_id",
        "        bound.entity_id",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "S1: instants of entries are told in the session's zone",
        FUNCTION,
        "{{ instant }} at time zone interval '0', 'YYYY",
        "{{ instant }}, 'YYYY",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "S17: entries of later cuts are shown with an earlier one",
        "dbt/models/staging/stg_audit_entries.sql",
        'inner join {{ ref("stg_batches") }} using (batch_id)\n',
        "",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "S20: batches of audit entries are not held against their table",
        "dbt/tests/assert_every_read_transition_is_accounted_for.sql",
        "batches.kind in ('transitions', 'audit_logs')",
        "batches.kind in ('transitions')",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "Publishing: a late audit entry of an old transition is missed",
        "dagster_project/publish.py",
        "where batches.cut > {since} and batches.cut <= {until}",
        "where false",
        (AUDIT_TRAIL,),
    ),
    Mutant(
        "Audit logs: a build of many entries builds all anew",
        "dagster_project/builds.py",
        "where kind = 'transitions' and cut <= %s",
        "where cut <= %s",
        ("tests/dagster_project/test_anew.py",),
    ),
    Mutant(
        "Audit logs: a replay takes a mapping of another kind",
        "ingest/rejects.py",
        "if meant is not own:",
        "if False:",
        (AUDIT_LOGS,),
    ),
    Mutant(
        "Audit logs: an entry has the id of a transition of the same content",
        "ingest/kinds.py",
        'mark="audit\\x00"',
        'mark=""',
        (AUDIT_LOGS,),
    ),
    Mutant(
        "Audit logs: an event of both kinds has one id",
        MAPPING,
        'f"{kind.mark}identity',
        'f"identity',
        (AUDIT_LOGS,),
    ),
    Mutant(
        "Audit logs: keys of another kind are taken and ignored",
        "ingest/files/mapping_schema.py",
        "        yield from _kind_defects(part, kind)\n",
        "",
        (AUDIT_LOGS,),
    ),
    Mutant(
        "Names: of several entities with one key, any is taken",
        "dagster_project/cli/keys.py",
        "if len(found) > 1:",
        "if False:",
        ("tests/dagster_project/test_cli.py",),
    ),
    Mutant(
        "Growth: what is mostly new is built in part",
        "dagster_project/builds.py",
        "is_sooner_anew = is_whole and _is_mostly_new(connection, cut)",
        "is_sooner_anew = False",
        ("tests/dagster_project/test_anew.py",),
    ),
    Mutant(
        "Growth: a few new rows build all of many",
        "dagster_project/builds.py",
        "if new < WORTH_ANEW or new < known:",
        "if new < WORTH_ANEW:",
        ("tests/dagster_project/test_anew.py",),
    ),
    Mutant(
        "Growth: a build of what is mostly new is stopped by what can not follow",
        "dagster_project/builds.py",
        "    except StatusEngineError:\n        return False\n    return True\n",
        "    finally:\n        pass\n    return True\n",
        ("tests/dagster_project/test_anew.py",),
    ),
    Mutant(
        "S15: seconds in a status that is entered later are negative",
        INTERVALS,
        """        when entered_at <= {{ instant }}
            then {{ seconds_between("entered_at", instant) }}
""",
        """        when true
            then {{ seconds_between("entered_at", instant) }}
""",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S15: a status that is entered later is overdue",
        INTERVALS,
        """        and sla_deadline < {{ instant }}
        and entered_at <= {{ instant }}
""",
        """        and sla_deadline < {{ instant }}
""",
        (CUTS_TESTS,),
    ),
    Mutant(
        "S15: a stay that is entered later counts as overdue",
        "dbt/models/sla/served/sla_performance.sql",
        "        and entered_at <= {{ as_of() }}\n",
        "",
        (CUTS_TESTS, UNIT),
    ),
    Mutant(
        "Rights: a function of others is lost with a full refresh",
        "dagster_project/catalogue/strangers.sql",
        "        n.nspname = 'sla_staging' and proname = any(%(ours)s)\n",
        "        proname = any(%(ours)s)\n",
        (BUILD_TESTS,),
    ),
    Mutant(
        "Handovers: what the cut before counted is told with the users of now",
        "dbt/models/sla/stored/handovers.sql",
        "    from ({{ user_accounts_of(replaced) }}) as replaced\n",
        '    from {{ ref("stg_user_accounts") }}\n',
        (HISTORIES,),
    ),
    Mutant(
        "Workload: on the clock's own day all that is to fall due is overdue",
        "dbt/models/sla/served/workload.sql",
        "            union all\n            select * from to_come\n",
        "",
        (HISTORIES, UNIT),
    ),
    Mutant(
        "Builds: a sum of nothing takes a row away that has others",
        BUILDS,
        "            {%- for name in node.config.meta.sums %}\n            and",
        "            {%- for name in node.config.meta.sums[:1] %}\n            and",
        (HISTORIES,),
    ),
    Mutant(
        "Restatements: what was not published is restated",
        RESTATED,
        "    inner join {{ published }}.sla_daily_counts as counts",
        "    left join {{ published }}.sla_daily_counts as counts",
        (RESTATEMENTS,),
    ),
    Mutant(
        "Restatements: additions of older releases stay",
        RESTATED,
        "where not is_addition",
        "where true",
        (RESTATEMENTS,),
    ),
    Mutant(
        "Secrets: a password that is no URL is taken apart",
        DATABASE,
        'or not {"@", "/"}.isdisjoint(credentials)',
        "or credentials is None",
        (TERMINAL,),
    ),
    Mutant(
        "Secrets: psql is given the URL among its arguments",
        COMMANDS,
        "os.execv(program, [program, *arguments])",
        "os.execv(program, [program, database.url(), *arguments])",
        (TERMINAL,),
    ),
    Mutant(
        "Secrets: the log of errors holds the password",
        "dagster_project/terminal.py",
        'report = _without_secrets("".join(traceback.format_exception(error)))',
        'report = "".join(traceback.format_exception(error))',
        (TERMINAL,),
    ),
    Mutant(
        "Checks: what a test found that stops a build is not told",
        "dagster_project/assets/derived.py",
        "            yield from told.of_tests(waiting)\n",
        "",
        (VERIFYING,),
    ),
    Mutant(
        "Checks: of what a failed build did not come to, all is shown as failed",
        "dagster_project/assets/derived.py",
        "            yield from _last_results(context, told.waiting)\n",
        "",
        (VERIFYING,),
    ),
    Mutant(
        "UI: origins of columns are those of other models",
        "dagster_project/lineage.py",
        'f"{unchanged.models(project)}.json"',
        '"lineage.json"',
        ("tests/dagster_project/test_shown.py",),
    ),
    Mutant(
        "UI: a picture ends at its first colour",
        "dagster_project/pictures.py",
        'KEPT = " =',
        'KEPT = "#<> =',
        ("tests/dagster_project/test_shown.py",),
    ),
    Mutant(
        "Checks: a failed verification fails no run",
        "dagster_project/checks.py",
        "        raise in_a_sentence(error) from error\n",
        "        pass\n",
        (VERIFYING,),
    ),
    Mutant(
        "Checks: a publication ignores a failed verification",
        "dagster_project/publish.py",
        "        raise PublishError(str(failure))\n",
        "        pass\n",
        (VERIFYING,),
    ),
    Mutant(
        "Checks: a run without anything new ignores a failed verification",
        UNCHANGED,
        "        verifications.require_none(connection)\n",
        "",
        (VERIFYING,),
    ),
    Mutant(
        "Checks: a check judges a part silently",
        "dagster_project/judged.py",
        "if is_full or part == Part.EVERYTHING:",
        "if part != Part.NOTHING:",
        (VERIFYING,),
    ),
    Mutant(
        "Checks: by hand, a check judges a part",
        BUILDS,
        '        or flags.WHICH == "test"\n',
        "",
        (VERIFYING,),
    ),
    Mutant(
        "What-if: later versions of a workflow end what is proposed",
        WHAT_IF,
        "when begins_at >= since then begins_at",
        "when begins_at >= since then in_force_until",
        (WHAT_IF_TESTS,),
    ),
    Mutant(
        "What-if: stays before it are judged by what is proposed",
        WHAT_IF,
        "        when earlier.bound_from < since then since\n",
        "",
        (WHAT_IF_TESTS,),
    ),
    Mutant(
        "What-if: what was applied first to a type is not in force before",
        WHAT_IF,
        "                then {{ before_history() }}\n",
        "                then in_force_from\n",
        (WHAT_IF_TESTS,),
    ),
    Mutant(
        "What-if: what is published is read when it is compared",
        "dagster_project/what_if.py",
        'f"create table {STAGING}.{table} as {stays}"',
        'f"create view {STAGING}.{table} as {stays}"',
        (WHAT_IF_TESTS,),
    ),
    Mutant(
        "Checks: a sample clears a failed verification",
        "dagster_project/aside.py",
        "        elif sample is None:\n",
        "        else:\n",
        (VERIFYING,),
    ),
    Mutant(
        "Secrets: files of the home are open to others",
        "dagster_project/__main__.py",
        "os.umask(0o077)",
        "os.umask(0o022)",
        (TERMINAL,),
    ),
    Mutant(
        "Terminal: control characters of the data are obeyed",
        "dagster_project/terminal.py",
        "c if c.isprintable() else _escaped(c)",
        "c",
        (TERMINAL,),
    ),
    Mutant(
        "Terminal: what nobody foresaw is a traceback",
        "dagster_project/terminal.py",
        "        _end(_unforeseen(error))\n",
        "        raise\n",
        (TERMINAL,),
    ),
    Mutant(
        "Words: what breaks a file off is told without its codes",
        "ingest/breaker.py",
        'f"Why: {named}{more}. {remedy}{OTHERWISE}"',
        'f"{OTHERWISE}"',
        ("tests/ingest/test_delivery.py",),
    ),
    Mutant(
        "Words: a broken off file is listed for ever",
        "ingest/rejects.py",
        "                delivered_at > stopped_at\n",
        "                false\n",
        ("tests/dagster_project/test_cli.py",),
    ),
    Mutant(
        "Words: a shape that is wrong hides what else is",
        "ingest/configuration/calendar_files.py",
        "    return [\n"
        "        *schema_defects(content.over(CALENDAR_DEFAULTS), CALENDAR),\n",
        "    return list("
        "schema_defects(content.over(CALENDAR_DEFAULTS), CALENDAR)) or [\n",
        ("tests/ingest/test_workflows.py",),
    ),
    Mutant(
        "Words: a calendar with defects is said to be missing",
        "ingest/configuration/workflows.py",
        "        files = [*others, *self.taken]\n",
        "        files = [*others, *self.calendars, *self.workflows]\n",
        ("tests/ingest/test_workflows.py",),
    ),
    Mutant(
        "S8: of types without a workflow all rows are said to bring deadlines",
        "ingest/delivery.py",
        'pl.col("sla_deadline").is_not_null() & ',
        "",
        ("tests/dagster_project/test_ignored_deadlines.py",),
    ),
    Mutant(
        "S3: in a draft a self-transition restarts the clock",
        "ingest/configuration/workflow_drafts.py",
        "where status_before is distinct from to_status",
        "where true",
        ("tests/ingest/test_workflow_drafts.py",),
    ),
    Mutant(
        "Words: in a draft the status where most begin and wait is final",
        "ingest/configuration/workflow_drafts.py",
        "(is_kept and status is not first)",
        "is_kept",
        ("tests/ingest/test_workflow_drafts.py",),
    ),
    Mutant(
        "Words: a draft takes the place of a file",
        "dagster_project/cli/output.py",
        'path.open("x", encoding="utf-8")',
        'path.open("w", encoding="utf-8")',
        ("tests/dagster_project/test_workflow_cli.py",),
    ),
    Mutant(
        "Words: an instant that clocks show twice is told without its offset",
        "dagster_project/explain.py",
        'f" {local:%z}" if again.utcoffset() != local.utcoffset() else ""',
        '""',
        ("tests/dbt/test_explanations.py",),
    ),
    Mutant(
        "Words: the page of the tables may fetch what it names",
        "dagster_project/docs.py",
        'return f"{head}{tag}{OFFLINE}{rest}"',
        'return f"{head}{tag}{rest}"',
        ("tests/dagster_project/test_docs_page.py",),
    ),
    Mutant(
        "Words: make is silent while pip installs",
        "Makefile",
        "while sleep 3 &&",
        "while sleep 30 &&",
        ("tests/test_makefile.py",),
    ),
    Mutant(
        "Files: a manifest that was half written is taken",
        "dagster_project/dbt_process.py",
        "        msgspec.json.decode(manifest.read_bytes(), type=dict)\n",
        "",
        (TERMINAL,),
    ),
    Mutant(
        "Files: settings of Dagster that were half written are taken",
        "dagster_project/run.py",
        "if not _is_whole(settings) or ",
        "if not settings.exists() or ",
        (TERMINAL,),
    ),
    Mutant(
        "Files: a socket's folder is anybody's",
        "ingest/store/embedded.py",
        "    _require_own(short)\n",
        "",
        ("tests/ingest/test_embedded.py",),
    ),
    Mutant(
        "web: any name of the host will do",
        GUARD,
        "if len(hosts) != 1 or hosts[0] not in",
        "if len(hosts) != 1 or not",
        (WEB,),
    ),
    Mutant(
        "web: the page of any origin may ask",
        GUARD,
        "return not (origins <= {own} and sites <= OWN_SITES)",
        "return not sites <= OWN_SITES",
        (WEB,),
    ),
    Mutant(
        "web: what a browser says of the site is not looked at",
        GUARD,
        "return not (origins <= {own} and sites <= OWN_SITES)",
        "return not origins <= {own}",
        (WEB,),
    ),
    Mutant(
        "web: an address may hold a mutation",
        GUARD,
        'if path.startswith(GRAPHQL) and connection.scope["query_string"]:',
        "if False:",
        (WEB,),
    ),
    Mutant(
        "web: a line end behind the path is another path",
        GUARD,
        'if path.startswith(GRAPHQL) and connection.scope["query_string"]:',
        'if path == GRAPHQL and connection.scope["query_string"]:',
        (WEB,),
    ),
    Mutant(
        "web: any path takes a POST",
        GUARD,
        'if method != "POST" or path != GRAPHQL:',
        'if method != "POST":',
        (WEB,),
    ),
    Mutant(
        "web: JSON is wherever it is named",
        GUARD,
        'if kind.strip().lower() != "application/json":',
        'if "json" not in connection.headers.get("content-type", ""):',
        (WEB,),
    ),
    Mutant(
        "web: websockets are not looked at",
        GUARD,
        'if scope["type"] == "lifespan":',
        'if scope["type"] != "http":',
        (WEB,),
    ),
    Mutant(
        "web: a page may be shown in a frame",
        GUARD,
        'if message["type"] == "http.response.start":',
        "if False:",
        (WEB,),
    ),
    Mutant(
        "web: a run's configuration names programs and databases",
        DEFINITIONS,
        "return dg.ResourceDefinition(set_up, {})",
        "return resource.get_resource_definition()",
        (DEFINITIONS_TESTS,),
    ),
    Mutant(
        "web: a server that is killed leaves its children",
        "dagster_project/children.py",
        "    os.killpg(0, signal.SIGINT)\n    time.sleep(PATIENCE)\n"
        "    os.killpg(0, signal.SIGKILL)\n",
        "    time.sleep(3600)\n",
        ("tests/dagster_project/test_children.py",),
    ),
    Mutant(
        "YAML: aliases multiply without a bound",
        YAML,
        "if self._aliased > MOST_ALIASED:",
        "if False:",
        (YAML_TESTS,),
    ),
    Mutant(
        "YAML: a file is nested without a bound",
        YAML,
        "if depth > DEEPEST:",
        "if False:",
        (YAML_TESTS,),
    ),
    Mutant(
        "YAML: a file holds values without a bound",
        YAML,
        "if self._values > MOST_VALUES:",
        "if False:",
        (YAML_TESTS,),
    ),
    Mutant(
        "YAML: a number has digits without a bound",
        YAML,
        "len(text) > LONGEST_NUMBER",
        "False",
        (YAML_TESTS,),
    ),
    Mutant(
        "YAML: a file has bytes without a bound",
        YAML,
        "if len(raw) > MOST_BYTES:",
        "if False:",
        (YAML_TESTS,),
    ),
    Mutant(
        "YAML: a text that is no number ends in a traceback",
        YAML,
        "except _MISFITS:",
        "except KeyboardInterrupt:",
        (YAML_TESTS,),
    ),
    Mutant(
        "YAML: of a repeated key the last value wins",
        YAML,
        "key in own",
        "False",
        (YAML_TESTS,),
    ),
    Mutant(
        "YAML: a pipe is read as an empty file",
        YAML,
        "not stat.S_ISREG(os.fstat(file.fileno()).st_mode)",
        "False",
        (YAML_TESTS,),
    ),
    Mutant(
        "YAML: half a character passes for a text",
        YAML,
        "_SURROGATE.search(text) or ",
        "",
        (YAML_TESTS,),
    ),
    Mutant(
        "mapping: a directive that is none is loaded",
        "ingest/files/time_formats.py",
        "if directive not in DIRECTIVES:",
        "if False:",
        (MAPPING_TESTS,),
    ),
    Mutant(
        "mapping: a format without a year is loaded",
        "ingest/files/time_formats.py",
        'if not used & {"%Y", "%y"}:',
        "if False:",
        (MAPPING_TESTS,),
    ),
    Mutant(
        "mapping: what polars raises ends a delivery",
        MAPPING,
        "except POLARS_RAISES as error:\n            reason",
        "except KeyboardInterrupt as error:\n            reason",
        (MAPPING_TESTS,),
    ),
    Mutant(
        "mapping: a column's name is taken for a pattern",
        "ingest/files/mapping_schema.py",
        " or PATTERN.match(column)",
        "",
        (MAPPING_TESTS,),
    ),
    Mutant(
        "S1: a fraction's digits are microseconds",
        "ingest/files/time_formats.py",
        'digits = (fraction + pl.lit("00000")).str.slice(0, 6)',
        'digits = (pl.lit("00000") + fraction).str.slice(-6)',
        ("tests/ingest/test_time_formats.py",),
    ),
    Mutant(
        "S1: text behind an instant is passed over",
        "ingest/files/time_formats.py",
        "_local=pl.when(is_whole).then(_local(part))",
        "_local=_local(part)",
        ("tests/ingest/test_time_formats.py",),
    ),
    Mutant(
        "S1: a leap second is the next minute",
        "ingest/files/time_formats.py",
        'return local if second is None else pl.when(second != "60").then(local)',
        "return local",
        ("tests/ingest/test_time_formats.py",),
    ),
    Mutant(
        "S1: an unknown zone is passed over",
        "ingest/instants.py",
        "pl.when(is_known | has_offset).then(local)",
        "local",
        ("tests/ingest/test_transition.py",),
    ),
    Mutant(
        "S1: a fold is the earlier instant, whatever is asked for",
        "ingest/instants.py",
        '"later": "latest"',
        '"later": "earliest"',
        ("tests/ingest/test_transition.py",),
    ),
    Mutant(
        "S1: a gap is passed over",
        "ingest/instants.py",
        "return pl.coalesce(found, forward)",
        "return found",
        ("tests/ingest/test_transition.py",),
    ),
    Mutant(
        "inbox: a file is read where it lies",
        INBOX,
        "place = file.path if file.is_taken else take(file.path)",
        "place = file.path",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: a file that was written to is archived",
        INBOX,
        "    if (before.st_size, before.st_mtime_ns) == "
        "(after.st_size, after.st_mtime_ns):\n",
        "    if after:\n",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: links are followed",
        INBOX,
        "    if stat.S_ISLNK(mode):\n",
        "    if False:\n",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: a database that fails refuses files",
        INBOX,
        "        return is_of_values or isinstance(error, psycopg.DataError)\n",
        "        return True\n",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: a panic of Polars ends the run",
        INBOX,
        "    except (Exception, pl.exceptions.PanicException) as error:",
        "    except Exception as error:",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: files are read without the mapping that could not be",
        INBOX,
        "    if is_held and (held :=",
        "    if False and (held :=",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: an archived file is overwritten",
        SHELVES,
        "    return not os.path.lexists(path)\n",
        "    return True\n",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: another filesystem gets no copy",
        SHELVES,
        "error.errno == errno.EXDEV",
        "False",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: names grow too long",
        SHELVES,
        "    end = os.fsencode(name)[-(longest - len(prefix)) :]\n",
        "    end = os.fsencode(name)\n",
        (INBOX_TESTS,),
    ),
    Mutant(
        "inbox: a linked folder of taken files is used",
        SHELVES,
        "    if not stat.S_ISDIR(folder.lstat().st_mode):\n",
        "    if not folder.is_dir():\n",
        (INBOX_TESTS,),
    ),
    Mutant(
        "parquet: nobody looks how long a shared value is",
        PARQUET,
        "        shared=plain if shares else 0,\n",
        "        shared=0,\n",
        (PARQUET_TESTS,),
    ),
    Mutant(
        "parquet: chunks end after so many rows only",
        PARQUET,
        "                if size >= chunks.CHUNK_BYTES or end",
        "                if end",
        (PARQUET_TESTS,),
    ),
    Mutant(
        "parquet: lists are read before they are refused",
        PARQUET,
        "        if leaf.is_repeated and leaf.values > LONGEST_LIST:\n",
        "        if False:\n",
        (PARQUET_TESTS,),
    ),
    Mutant(
        "parquet: rows may be of any length",
        PARQUET,
        "    if len(too_long):\n",
        "    if False:\n",
        (PARQUET_TESTS,),
    ),
    Mutant(
        "parquet: rows that Arrow leaves out are not missed",
        PARQUET,
        "        if end != rows:\n",
        "        if False:\n",
        (PARQUET_TESTS,),
    ),
    Mutant(
        "parquet: dictionaries of dictionary types end no chunk",
        PARQUET,
        "        if parts and _has_dictionary(file, group, typed):\n",
        "        if False:\n",
        (PARQUET_TESTS,),
    ),
    Mutant(
        "XES: a DOCTYPE of an event log is followed",
        XES,
        "        self._parser.StartDoctypeDeclHandler = self._refuse_doctype\n",
        "",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: a column that no event has is null",
        XES,
        "    if missing:\n        _search(",
        "    if False:\n        _search(",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: the events before a tear are lost",
        XES,
        "            if part.lines:\n                yield part\n            raise\n",
        "            raise\n",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: the first of two values of a key wins",
        XES,
        "            self._flaw = self._flaw or _Flaw(detail, [])\n"
        '            self._flaw.repeated.append((given["key"], given["value"]))\n',
        "            pass\n",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: a trace's attributes behind its events are taken for the later ones",
        XES,
        "            if column in self._columns:\n                self._refuse(\n",
        "            if not self._columns:\n                self._refuse(\n",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: a trace's text does not count in its rows",
        XES,
        "ATTRIBUTE_BYTES * len(texts) + case.size",
        "ATTRIBUTE_BYTES * len(texts)",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: names of elements pile up",
        XES,
        "if len(self._names) > MOST_NAMES:",
        "if False:",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: an event of any size is held",
        XES,
        "if self._open_bytes > chunks.LONGEST_LINE:",
        "if False:",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: a tag of any size is held",
        XES,
        "if self._fed - self._parser.CurrentByteIndex > LONGEST_TAG:",
        "if False:",
        (XES_TESTS,),
    ),
    Mutant(
        "XES: elements are open to any depth",
        XES,
        "        if depth > DEEPEST:",
        "        if False:",
        (XES_TESTS,),
    ),
    Mutant(
        "Alerts: at risk at closing, not at the opening after it",
        "dbt/macros/business_time.sql",
        "width_bucket({{ clock }}, {{ page }}.business_clock)",
        "width_bucket({{ clock }} - interval '1 us', {{ page }}.business_clock)",
        (HISTORIES, "tests/dbt/test_alert_stages.py"),
    ),
    Mutant(
        "Alerts: a breach is due at the deadline",
        "dbt/models/sla/stored/sla_alerts.sql",
        "sla_deadline + interval '1 microsecond' as told_from",
        "sla_deadline as told_from",
        ("tests/dbt/test_alert_stages.py",),
    ),
    Mutant(
        "Alerts: a stay that may have ended is told",
        "dbt/models/sla/served/due_alerts.sql",
        "alerts.due_at <= {{ as_of() }}\n    and not exists (",
        "alerts.due_at <= {{ as_of() }}\n    and true or exists (",
        ("tests/dagster_project/test_alerts.py",),
    ),
    Mutant(
        "Targets: a later version leaves an earlier one in force",
        "dbt/models/sla/served/target_compliance.sql",
        "or targets.effective_until > decided.counted_on",
        "or targets.effective_until >= decided.counted_on",
        (HISTORIES,),
    ),
    Mutant(
        "Targets: a breach counts on the day that the stay ended",
        "dbt/models/sla/stored/workload_changes.sql",
        "(case when verdict = 'breached' then sla_deadline end, 0",
        "(case when verdict = 'breached' then left_at end, 0",
        (HISTORIES,),
    ),
    Mutant(
        "Targets: a change judges again what was decided today",
        "ingest/configuration/workflows.py",
        "and version.identity[2] <= today",
        "and version.identity[2] < today",
        ("tests/ingest/test_workflows.py",),
    ),
    Mutant(
        "Signals: one that stands begins with each look",
        "dagster_project/alerts/signals.py",
        "        if signal_id not in stood:",
        "        if signal_id:",
        ("tests/dagster_project/test_target_signals.py",),
    ),
    Mutant(
        "Signals: one that was told is told again",
        "dagster_project/alerts/due.py",
        "as last), 'end') = 'signal')",
        "as last), 'end') = 'nothing')",
        ("tests/dagster_project/test_target_signals.py",),
    ),
    Mutant(
        "Signals: one breach of one stay is a fire",
        "dagster_project/alerts/signals.py",
        "return bool(least * row",
        "return bool(row",
        ("tests/dagster_project/test_target_signals.py",),
    ),
    Mutant(
        "Alerts: what was told is told again",
        "dagster_project/alerts/due.py",
        "'') <> 'alert'",
        "'') <> 'nothing'",
        ("tests/dagster_project/test_alerts.py",),
    ),
    Mutant(
        "Alerts: nothing is taken back",
        "dagster_project/alerts/due.py",
        "return corrections + alerts + cursor",
        "return alerts + cursor",
        ("tests/dagster_project/test_alerts.py",),
    ),
    Mutant(
        "Alerts: two deliveries do not take turns",
        "dagster_project/alerts/channels.py",
        "is_held = row is not None and row[0]",
        "is_held = row is not None",
        ("tests/dagster_project/test_alerts.py",),
    ),
    Mutant(
        "Alerts: others go past what was not taken",
        "dagster_project/alerts/delivery.py",
        "yield message, error\n        if error is not None:",
        "yield message, error\n        if error == 0:",
        ("tests/dagster_project/test_alerts.py",),
    ),
    Mutant(
        "Alerts: an address is told in an error",
        "dagster_project/alerts/channels.py",
        'words = words.replace(secret, "…")',
        "words = words.replace(secret, secret)",
        ("tests/dagster_project/test_alerts.py",),
    ),
    Mutant(
        "Alerts: silent hours are not kept",
        "dagster_project/alerts/channels.py",
        "return row is not None and row[0] == 0",
        "return row is None",
        ("tests/dagster_project/test_alerts.py",),
    ),
    Mutant(
        "Pipeline alerts: a cause is told again at once",
        "dagster_project/alerts/incidents.py",
        "if now - told.at < HALF_HOUR:",
        "if now < told.at:",
        (PIPELINE_TESTS,),
    ),
    Mutant(
        "Pipeline alerts: failed runs that were not read are not counted",
        "dagster_project/alerts/watching.py",
        "return max(counted - len(read), 0)",
        "return 0",
        (PIPELINE_TESTS,),
    ),
    Mutant(
        "Pipeline alerts: nothing is told without the database",
        "dagster_project/alerts/pipeline.py",
        "found = remembered_channels(home)",
        "found = []",
        (PIPELINE_TESTS,),
    ),
    Mutant(
        "Pipeline alerts: what health could not ask is over",
        "dagster_project/alerts/pipeline.py",
        "frozenset(memory.incidents) - asked",
        "frozenset()",
        (PIPELINE_TESTS,),
    ),
    Mutant(
        "Health: a daemon that missed two heartbeats lives",
        "dagster_project/health/instance.py",
        "if age > MISSED * INTERVAL",
        "if age > 3 * MISSED * INTERVAL",
        (HEALTH_TESTS,),
    ),
    Mutant(
        "Health: what hangs is waited for",
        "dagster_project/health/survey.py",
        "self.thread.join(GIVEN_UP.total_seconds())",
        "self.thread.join()",
        (HEALTH_TESTS,),
    ),
    Mutant(
        "Health: asking starts the embedded database",
        "dagster_project/health/warehouse.py",
        "or embedded.address(home)",
        "or embedded.start(home)",
        (HEALTH_TESTS,),
    ),
    Mutant(
        "S17: a full disk is no sentence",
        "dagster_project/publish.py",
        "except (OSError, duckdb.Error) as error:\n        reason",
        "except ZeroDivisionError as error:\n        reason",
        ("tests/dagster_project/test_publish.py",),
    ),
    Mutant(
        "Automation: an entity is moved that left and came back",
        MOVES,
        "if last_two != [(recorded.id,), (move.last_transition_id,)]:",
        "if False:",
        (AUTOMATION,),
    ),
    Mutant(
        "Automation: no child is all of them",
        AUTOMATIC,
        "when due.is_all then children.reached_count = children.child_count",
        "when due.is_all then children.reached_count is not distinct from"
        " children.child_count",
        (AUTOMATION,),
    ),
    Mutant(
        "Automation: the first context of a key counts",
        AUTOMATIC,
        "                        transitions.created_at,\n",
        "                        transitions.created_at desc,\n",
        (AUTOMATION,),
    ),
    Mutant(
        "Automation: the instant at which hours are up is too early",
        AUTOMATIC,
        "where timed.holds_from <= {{ as_of() }}",
        "where timed.holds_from < {{ as_of() }}",
        (AUTOMATION,),
    ),
    Mutant(
        "Automation: rules turn in a circle",
        RULES,
        "        if end == start:",
        "        if False:",
        ("tests/ingest/test_workflows.py",),
    ),
    Mutant(
        "the last run of an asset goes with the old ones",
        "dagster_project/retention.py",
        "[i for i in ids if i not in needed][:most]",
        "ids[:most]",
        (RETENTION_TESTS,),
    ),
    Mutant(
        "a run that is going on is deleted",
        "dagster_project/retention.py",
        "dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before)",
        "dg.RunsFilter(created_before=before)",
        (RETENTION_TESTS,),
    ),
    Mutant(
        "a retry is dead as long as it has the tag of its parent",
        "dagster_project/dead_runs.py",
        "process and process != _process_of_parent(instance, run)",
        "process",
        (DEFINITIONS_TESTS,),
    ),
    Mutant(
        "Dagster's storage has the environment of dbt",
        "dagster_project/dbt_program.py",
        "return {PREFIX + name: value for name, value in environment.items()}",
        "return dict(environment)",
        ("tests/dagster_project/test_dbt_runs.py",),
    ),
    Mutant(
        "Journeys: all time is waiting time",
        "dbt/models/sla/stored/entity_journeys.sql",
        "sum(business_seconds) filter (where is_waiting), 0",
        "sum(business_seconds), 0",
        ("tests/dbt/test_histories.py",),
    ),
    Mutant(
        "Analytics: open stays are dropped from time in status",
        "analytics/stays.py",
        '        from open_stays\n    """',
        '        from open_stays where false\n    """',
        ("tests/analytics/test_survival.py",),
    ),
    Mutant(
        "Analytics: a back-test knows who left later",
        "analytics/forecast.py",
        "entered_at <= $at and left_at <= $at and not is_final",
        "entered_at <= $at and left_at is not null and not is_final",
        ("tests/analytics/test_forecast.py",),
    ),
    Mutant(
        "Analytics: who is censored at a second is not at risk in it",
        "analytics/survival.py",
        '(left + pl.col("censored_count"))\n            .cum_sum(reverse=True)',
        "left\n            .cum_sum(reverse=True)",
        ("tests/analytics/test_survival.py",),
    ),
    Mutant(
        "Analytics: an entity that moves the same way again is counted again",
        "analytics/flow.py",
        "- coalesce(known.entity_count, 0) as entity_count",
        "as entity_count",
        ("tests/analytics/test_flow.py",),
    ),
    Mutant(
        "Analytics: associations are not corrected for all that was looked at",
        "analytics/proportions.py",
        'return [float(q) for q in stats.false_discovery_control(p, method="bh")]',
        "return list(p)",
        ("tests/analytics/test_proportions.py",),
    ),
    Mutant(
        "Analytics: a back-test knows the deadlines that later transitions brought",
        "analytics/forecast.py",
        "where told.created_at <= $at and told.sla_deadline is not null",
        "where told.sla_deadline is not null",
        ("tests/analytics/test_really_published.py",),
    ),
    Mutant(
        "Analytics: what came is held against the deadline of now",
        "analytics/forecast.py",
        '(pl.col("left_at") > pl.col("sla_deadline"))',
        '(pl.col("left_at") > pl.col("deadline_now"))',
        ("tests/analytics/test_really_published.py",),
    ),
    Mutant(
        "Analytics: odds within a status are those of all stays",
        "analytics/breaches.py",
        'counts = ("breached_count", "due_count", "stratum_breached", "stratum_due")',
        'counts = ("breached_count", "due_count", "all_breached", "all_due")',
        ("tests/analytics/test_findings.py",),
    ),
    Mutant(
        "S21: MetricFlow's compliance is of closed stays",
        "metrics/models/metrics.yml",
        "expr: due_count",
        "expr: met_count + breached_count",
        ("tests/dagster_project/test_metrics.py",),
    ),
    Mutant(
        "Analytics: nothing is better than the base rate, and it beats it",
        "analytics/forecast.py",
        "beats = interval.low > 0",
        "beats = interval.high > 0",
        ("tests/analytics/test_forecast.py",),
    ),
    Mutant(
        "Notebooks: the review of a week leaves out nobody",
        "analytics/report.py",
        "from open_work\n        where {condition.sql}",
        "from open_work\n        where {condition.sql} or true",
        ("tests/analytics/test_notebooks.py",),
    ),
    Mutant(
        "Notebooks: what ended stays overdue in the course of work",
        "analytics/flow.py",
        "if(is_breached, -stay_count, 0)",
        "0",
        ("tests/analytics/test_notebooks.py",),
    ),
    Mutant(
        "Notebooks: rows are late that came before later ones",
        "analytics/quality.py",
        "rows between 1 following and unbounded following",
        "rows between unbounded preceding and 1 preceding",
        ("tests/analytics/test_notebooks.py",),
    ),
    Mutant(
        "Notebooks: a status's name is read by Mermaid",
        "notebooks/process_map.py",
        'return re.sub(r"[^\\w ,.·-]", lambda found: f"#{ord(found[0])};", text)',
        "return text",
        ("tests/analytics/test_notebooks.py",),
    ),
)


def is_found(mutant: Mutant) -> bool:
    """Whether a test turns red without what the mutant takes away."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name) / "project"
        shutil.copytree(PROJECT, copy, ignore=LEFT_OUT)
        # Public data beside the project, where it is there.
        (Path(name) / "shared").symlink_to(PROJECT.parent / "shared")
        file = copy / mutant.file
        file.write_text(file.read_text().replace(mutant.old, mutant.new))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-qx", "-n", "0", *mutant.tests],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1):
        msg = f"{mutant.name}: pytest ended with {done.returncode}.\n"
        raise RuntimeError(msg + done.stdout + done.stderr)
    return done.returncode == 1


def main(words: list[str]) -> int:
    """Try the mutants whose names hold all words; 1 where one survives."""
    chosen = [m for m in MUTANTS if all(word in m.name for word in words)]
    survived = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mutant, found in zip(chosen, pool.map(is_found, chosen), strict=True):
            print("found   " if found else "SURVIVED", mutant.name, flush=True)
            survived += [] if found else [mutant]
    print(f"{len(chosen)} mutants, {len(survived)} survived.")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
