"""WorkflowEngine: every AWS resource that runs workflows, in one component."""

from collections.abc import Callable, Mapping
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from mini_workflow import settings
from pulumi_component import (
    account,
    history,
    inputs,
    links,
    monitoring,
    pipes,
    policies,
    prune,
    schedules,
    sharing,
)
from pulumi_component.args import Link, WorkflowEngineArgs
from pulumi_component.function import Function, packaged
from pulumi_component.options import (
    LONGEST_ENGINE_NAME,
    LONGEST_IN_QUEUE,
    EngineOptions,
    FunctionOptions,
    check_name,
    check_worker_name,
)
from pulumi_component.signing import SigningKey, signing_key

MAX_MESSAGE = 1_048_576
"""Bytes; the provider would leave a queue at 262,144. Source: API reference of SQS."""
KEPT = LONGEST_IN_QUEUE * 86_400
"""Seconds for which queues keep messages: as long as they can."""
EVENT_RECEIVES = 400
"""How often a batch of events may fail before its messages are set aside. The engine blocks what
never works after a few tries; the others are outages, such as a deployment that does not start, and
have to be outlived: with a minute and a half between two tries, ten hours of them."""
PIPE_RECEIVES = 1_000
"""How often a pipe may fail with a message before it is set aside: hours, so that an outage of
the queue behind it delays timers and does not lose them. The most that SQS allows."""
VISIBILITY_MARGIN = 30
"""Seconds for which events in hand stay hidden beyond the function's timeout, which is the least that Lambda
takes. So long does an execution rest at most whose process has died."""
LONGEST_WAIT_FOR_WORKER = 6 * 3_600
"""Seconds that a task may wait for a free worker. Source: API reference of Lambda, the maximum of
MaximumEventAgeInSeconds."""
BATCH = 10
"""Events per call, the most that a FIFO queue gives. Source: AWS Lambda Developer Guide."""


class WorkflowEngine(pulumi.ComponentResource):
    """Runs durable workflows on AWS: Lambda, S3, SQS and EventBridge, and no server.

    It makes the bucket with the histories, the queues of events and timers, the functions that run
    workflows and tasks, and for each of these a role that may do what it needs and nothing else.
    """

    history: aws.s3.Bucket
    """The bucket with the histories."""
    events: aws.sqs.Queue
    """The FIFO queue of events, in groups by execution."""
    timers: aws.sqs.Queue
    """The queue whose messages become events after their delay."""
    worker: aws.lambda_.Function
    """The function that runs tasks."""
    orchestrator: aws.lambda_.Function
    """The function that runs workflows."""
    link: pulumi.Output[Link]
    """What a function needs to start executions and to talk to them, for programs in other
    languages and other stacks: secret as a whole if the signing key is in it."""

    def __init__(
        self, name: str, args: WorkflowEngineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        check_name(name, LONGEST_ENGINE_NAME)
        options = EngineOptions.from_args(args)
        for worker_name in (*options.workers, *options.pulling):
            check_worker_name(name, worker_name)
        for function in (options.worker, options.orchestrator, *options.workers.values()):
            # Before anything is registered: half an engine is worse than none.
            packaged(FunctionOptions.from_args(function))
        super().__init__("mini-workflow:index:WorkflowEngine", name, {}, opts)
        options, self.keeps_concurrency = account.reserve(name, options, self)
        """Whether nothing says how many calls are the orchestrator's own."""
        self._name_of = name
        self._options = options
        self._mine = pulumi.ResourceOptions(parent=self)

        suffix = random.RandomId(f"{name}-suffix", byte_length=4, opts=self._mine)
        key = signing_key(name, options, self._mine)
        self.history, self._history = history.bucket(name, options, self)
        self.table = history.table(name, options, self)
        visibility = FunctionOptions.from_args(options.orchestrator).timeout + VISIBILITY_MARGIN
        self.events, unprocessed = self._queue(
            "events",
            EVENT_RECEIVES,
            visibility_timeout_seconds=visibility,
            fifo_queue=True,
            content_based_deduplication=False,
            deduplication_scope="messageGroup",
            fifo_throughput_limit="perMessageGroupId",
        )
        self.timers, lost_timers = self._queue("timers", PIPE_RECEIVES)
        failures, lost_failures = self._queue("failures", PIPE_RECEIVES)
        undelivered = self._single_queue("schedules-dlq")
        group, scheduler_role = self._schedules(undelivered)

        worker = self._worker("worker", options.worker, key, failures)
        self.worker = worker.function
        named = {
            worker_name: self._worker(f"worker-{worker_name}", function, key, failures)
            for worker_name, function in options.workers.items()
        }
        self.workers = {worker_name: one.function for worker_name, one in named.items()}
        workers = {"worker": worker, **{f"worker-{label}": one for label, one in named.items()}}
        queues = {label: self._queue(f"worker-{label}", PIPE_RECEIVES) for label in options.pulling}
        self.queues = {label: taken for label, (taken, _) in queues.items()}
        orchestrator = self._orchestrator(
            worker, named, key, unprocessed, group, scheduler_role, undelivered
        )
        self.orchestrator = orchestrator.function
        needs = orchestrator.needs
        if orchestrator.version is not None:
            needs = self._versions(orchestrator)
        fed = self._feed(workers, orchestrator)
        if options.schedules is not None:
            before = [*orchestrator.before, fed]
            schedules.keep(name, options.schedules, self.orchestrator, before, self._mine)
        moved = [
            pipes.pipe(
                f"{name}-{kind['of']}-pipe",
                source,
                self.events,
                kind,
                suffix,
                options,
                self._mine,
            )
            for kind, source in ((pipes.TIMERS, self.timers), (pipes.FAILURES, failures))
        ]
        called = (orchestrator.name, orchestrator.qualifier)
        sharing.share(name, options.shared_with, self.events, called, self._mine)
        # What `link=[engine]` takes: in parts, of which the signing key alone is secret. It is no
        # output of the component, so that it is not declared above.
        self.linked = links.joined(self._parts(key, orchestrator))
        self.link = links.as_output(self.linked)
        # For roles that are not made here. No output either.
        self.needs = {
            **{what: one.needs for what, one in workers.items()},
            "orchestrator": needs,
            **{f"worker-{label}": self._needs_of(key, one) for label, one in self.queues.items()},
        }
        if options.topics is not None:
            monitoring.alarms(
                name,
                set_aside={
                    "events": unprocessed,
                    "timers": lost_timers,
                    "failures": lost_failures,
                    "schedules": undelivered,
                    **{f"worker-{label}": aside for label, (_, aside) in queues.items()},
                },
                events=self.events,
                workers={what: one.function for what, one in workers.items()},
                orchestrator=self.orchestrator,
                pipes={"timers": moved[0], "failures": moved[1]},
                schedules=group,
                topics=options.topics,
                tags=options.tags,
                opts=self._mine,
            )
        if options.dashboard:
            monitoring.dashboard(
                name,
                {"events": self.events, "timers": self.timers, "failures": failures},
                {what: one.function for what, one in workers.items()},
                self.orchestrator,
                self._mine,
            )
            monitoring.queries(
                name,
                self.events,
                {
                    "worker": [one.logs for one in workers.values()],
                    "orchestrator": [orchestrator.logs],
                },
                self._mine,
            )
        self.register_outputs(
            {
                "history": self.history,
                "events": self.events,
                "timers": self.timers,
                "worker": self.worker,
                "orchestrator": self.orchestrator,
                "link": self.link,
            }
        )

    # Queues

    def _queue(self, what: str, receives: int, **more: Any) -> tuple[aws.sqs.Queue, aws.sqs.Queue]:
        """Return a queue and the one for the messages that cannot be processed."""
        # That of a FIFO queue is FIFO too.
        set_aside = self._single_queue(f"{what}-dlq", **more)
        redrive = pulumi.Output.json_dumps(
            {"deadLetterTargetArn": set_aside.arn, "maxReceiveCount": receives}
        )
        return self._single_queue(what, redrive_policy=redrive, **more), set_aside

    def _single_queue(self, what: str, **more: Any) -> aws.sqs.Queue:
        return aws.sqs.Queue(
            f"{self._name_of}-{what}",
            max_message_size=MAX_MESSAGE,
            message_retention_seconds=KEPT,
            **(
                {"sqs_managed_sse_enabled": True}
                if self._options.kms_key is None
                else {"kms_master_key_id": self._options.kms_key}
            ),
            tags=self._options.tags,
            opts=self._mine,
            **more,
        )

    # Schedules

    def _schedules(
        self, undelivered: aws.sqs.Queue
    ) -> tuple[aws.scheduler.ScheduleGroup, aws.iam.Role]:
        name, mine = self._name_of, self._mine
        group = aws.scheduler.ScheduleGroup(f"{name}-schedules", tags=self._options.tags, opts=mine)
        role = aws.iam.Role(
            f"{name}-scheduler-role",
            assume_role_policy=group.arn.apply(
                lambda arn: policies.trust("scheduler", pipes.account_of(arn), arn)
            ),
            permissions_boundary=self._options.permissions_boundary,
            tags=self._options.tags,
            opts=mine,
        )
        aws.iam.RolePolicy(
            f"{name}-scheduler-policy",
            role=role.name,
            policy=pulumi.Output.all(
                arns={"events": self.events.arn, "undelivered": undelivered.arn},
                kms=self._options.kms_key,
            ).apply(
                lambda known: policies.allowing(
                    policies.scheduler(**known["arns"]) + policies.encrypted(known["kms"])
                )
            ),
            opts=mine,
        )
        return group, role

    # Functions

    def _function(
        self,
        what: str,
        args: Mapping[str, Any],
        variables: Mapping[str, pulumi.Input[str]],
        permissions: pulumi.Output[Any],
        after: pulumi.ResourceHook | None = None,
        *,
        keep_concurrency: bool = False,
    ) -> Function:
        own = {"engine": links.OWN, "environment": variables, "permissions": permissions}
        given: Any = {**args, "link": inputs.joined([own], args["link"])}
        return Function(
            f"{self._name_of}-{what}",
            given,
            self._mine,
            after=after,
            keep_concurrency=keep_concurrency,
        )

    def _worker(
        self, what: str, args: Mapping[str, Any], key: SigningKey, failures: aws.sqs.Queue
    ) -> Function:
        worker = self._function(
            what,
            args,
            {**self._settings(key), settings.QUEUE_URL: self.events.url},
            self._allowing(
                key,
                policies.worker,
                events=self.events.arn,
                failures=failures.arn,
                **self._stored(),
            ),
        )
        self._invocations(worker, failures, what, worker.qualifier)
        if worker.version is not None:
            # Calls of a version do not go by what holds for an alias. It stays when another one is
            # made for the next version: executions from before have their tasks run by this one.
            self._invocations(worker, failures, what, worker.version, of_version=True)
        return worker

    def _invocations(
        self,
        worker: Function,
        failures: aws.sqs.Queue,
        what: str,
        qualifier: pulumi.Output[str] | None,
        of_version: bool = False,
    ) -> None:
        aws.lambda_.FunctionEventInvokeConfig(
            f"{self._name_of}-{what}-invocations{'-of-version' if of_version else ''}",
            function_name=worker.function.name,
            qualifier=qualifier,
            # The engine decides what is tried again, and when.
            maximum_retry_attempts=0,
            maximum_event_age_in_seconds=LONGEST_WAIT_FOR_WORKER,
            destination_config={"on_failure": {"destination": failures.arn}},
            # Lambda checks whether the function may send there.
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=worker.before, retain_on_delete=of_version or None
            ),
        )

    def _orchestrator(
        self,
        worker: Function,
        named: Mapping[str, Function],
        key: SigningKey,
        unprocessed: aws.sqs.Queue,
        group: aws.scheduler.ScheduleGroup,
        scheduler_role: aws.iam.Role,
        undelivered: aws.sqs.Queue,
    ) -> Function:
        kms = self._options.kms_key
        return self._function(
            "orchestrator",
            self._options.orchestrator,
            {
                **self._settings(key),
                settings.QUEUE_URL: self.events.url,
                settings.QUEUE_ARN: self.events.arn,
                settings.DLQ_URL: unprocessed.url,
                settings.TIMER_QUEUE_URL: self.timers.url,
                settings.WORKER_FUNCTION_NAME: worker.pinned,
                **self._called(named),
                settings.ROLE_ARN: scheduler_role.arn,
                settings.SCHEDULE_GROUP: group.name,
                settings.SCHEDULE_DLQ_ARN: undelivered.arn,
                **({} if kms is None else {settings.SCHEDULE_KEY_ARN: kms}),
                **self._retention(),
            },
            self._allowing(
                key,
                policies.orchestrator,
                events=self.events.arn,
                unreadable=unprocessed.arn,
                timers=self.timers.arn,
                # Tasks are run by the version that has the code of their workflow.
                worker=worker.pinned_arns,
                schedules=group.arn.apply(_schedules_of),
                scheduler_role=scheduler_role.arn,
                **({} if kms is None else {"schedules_key": kms}),
                **self._stored(),
                **{f"worker {label}": function.pinned_arns for label, function in named.items()},
                **{f"queue {label}": one.arn for label, one in self.queues.items()},
            ),
            after=prune.pruning(f"{self._name_of}-orchestrator", self._options.keep_versions),
            keep_concurrency=self.keeps_concurrency,
        )

    def _retention(self) -> dict[str, str]:
        kept = self._options.execution_retention
        return {} if kept is None else {settings.EXECUTION_RETENTION: str(kept * 86_400)}

    def _versions(self, orchestrator: Function) -> pulumi.Output[str]:
        """Let the orchestrator call its other versions, which takes its own name; answers all that its
        role has to allow.
        """
        granted = orchestrator.function.arn.apply(policies.versions_of)
        if orchestrator.role is not None:
            orchestrator.before.append(
                aws.iam.RolePolicy(
                    f"{self._name_of}-orchestrator-versions-policy",
                    role=orchestrator.role.name,
                    policy=granted.apply(policies.allowing),
                    opts=self._mine,
                )
            )
        return pulumi.Output.all(orchestrator.needs, granted).apply(
            lambda known: policies.joined(*known)
        )

    def _settings(self, key: SigningKey) -> dict[str, pulumi.Input[str]]:
        """Return what both functions have: where the histories are, and the key."""
        prefix = self._options.history.prefix
        return {
            settings.BUCKET_NAME: self.history.bucket,
            **({} if self.table is None else {settings.TABLE_NAME: self.table.name}),
            **({settings.OBJECT_PREFIX: prefix} if prefix else {}),
            **key.variables,
        }

    def _feed(
        self, workers: Mapping[str, Function], orchestrator: Function
    ) -> aws.lambda_.EventSourceMapping:
        """Connect the queue of events to the orchestrator, when all functions are ready for it."""
        # Orchestrator, worker and queue call each other as long as a workflow runs. Lambda takes
        # that for a mistake, and stops it after some sixteen steps unless it is told otherwise.
        allowed = [
            aws.lambda_.FunctionRecursionConfig(
                f"{self._name_of}-{what}-recursion",
                function_name=function.function.name,
                recursive_loop="Allow",
                opts=self._mine,
            )
            for what, function in {**workers, "orchestrator": orchestrator}.items()
        ]
        most = self._options.concurrency
        return aws.lambda_.EventSourceMapping(
            f"{self._name_of}-events-mapping",
            event_source_arn=self.events.arn,
            function_name=orchestrator.arn,
            batch_size=BATCH,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config=None if most is None else {"maximum_concurrency": most},
            tags=self._options.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*orchestrator.before, *allowed],
                ignore_changes=["scaling_config"] if self.keeps_concurrency else None,
            ),
        )

    def _parts(self, key: SigningKey, orchestrator: Function) -> list[Link]:
        """Return what each of the nodes that can be linked gives: together, what the engine itself
        gives.
        """
        sent = {
            settings.QUEUE_URL: self.events.url,
            settings.QUEUE_ARN: self.events.arn,
            # For whoever takes the tasks of a worker from its queue, with these settings.
            **(self._called({}) if self.queues else {}),
        }
        # In another account the name alone is that of a function there.
        called = orchestrator.arn if self._options.shared_with else orchestrator.called
        asked = {settings.ORCHESTRATOR_FUNCTION_NAME: called}
        arns = (
            (self.history, self._settings(key), policies.reader_of_history, self._stored()),
            (self.events, sent, policies.sender_of_events, {"events": self.events.arn}),
            (self.orchestrator, asked, policies.asker, {"orchestrator": orchestrator.arn}),
        )
        parts: list[Link] = []
        for node, variables, allowed, known in arns:
            link: Link = {
                "engine": self._name_of,
                "environment": {**variables, **key.variables},
                "permissions": self._allowing(key, allowed, **known),  # type: ignore[typeddict-item]
            }
            links.offer(node, link)
            parts.append(link)
        return parts

    def _called(self, named: Mapping[str, Function]) -> dict[str, pulumi.Input[str]]:
        """Return the setting that names the functions and queues of workers, if there are any."""
        places: dict[str, pulumi.Output[str]] = {
            **{name: function.pinned for name, function in named.items()},
            **{name: queue.url for name, queue in self.queues.items()},
        }
        return {settings.WORKERS: pulumi.Output.json_dumps(places)} if places else {}

    def _needs_of(self, key: SigningKey, queue: aws.sqs.Queue) -> pulumi.Output[str]:
        """Return the policy of a machine that takes the tasks of a worker from its queue."""
        allowed = self._allowing(
            key, policies.queue_worker, queue=queue.arn, events=self.events.arn, **self._stored()
        )
        return pulumi.Output.unsecret(allowed.apply(policies.allowing))

    def _stored(self) -> dict[str, pulumi.Output[str]]:
        table = {} if self.table is None else {"table": self.table.arn}
        return {"bucket": self.history.arn, "history": self._history, **table}

    def _allowing(
        self,
        key: SigningKey,
        allowed: Callable[..., list[policies.Grant]],
        **arns: pulumi.Output[str],
    ) -> pulumi.Output[list[policies.Grant]]:
        """Return what a policy allows on these resources, and the keys that this takes."""

        def grants(known: Mapping[str, Any]) -> list[policies.Grant]:
            kms, kept = known["kms"], known["kept"]
            return [
                *allowed(**known["arns"]),
                *(() if kept is None else policies.signing_key(kept)),
                *policies.encrypted(kms),
            ]

        return pulumi.Output.all(arns=arns, kms=self._options.kms_key, kept=key.kept_at).apply(
            grants
        )


def _schedules_of(group: str) -> str:
    """Return the ARN of the schedules of a group, from the ARN of the group."""
    # The names of schedules are not known before they exist.
    return group.replace(":schedule-group/", ":schedule/") + "/*"
