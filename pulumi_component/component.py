"""WorkflowEngine: every AWS resource that runs workflows, in one component."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from mini_workflow import settings
from pulumi_component import inputs, links, monitoring, pipes, policies
from pulumi_component.args import Link, WorkflowEngineArgs
from pulumi_component.function import Function, packaged
from pulumi_component.options import (
    LONGEST_ENGINE_NAME,
    LONGEST_IN_QUEUE,
    EngineOptions,
    FunctionOptions,
    check_name,
)

MAX_MESSAGE = 1_048_576
"""Bytes; the provider would leave a queue at 262,144. Source: API reference of SQS."""
KEPT = LONGEST_IN_QUEUE * 86_400
"""Seconds for which queues keep messages: as long as they can."""
EVENT_RECEIVES = 100
"""How often a batch of events may fail before its messages are set aside. The engine blocks what
never works after a few tries; the others are outages, such as a deployment that does not start, and
have to be outlived: with five minutes between two tries, eight hours of them."""
PIPE_RECEIVES = 1_000
"""How often a pipe may fail with a message before it is set aside: hours, so that an outage of
the queue behind it delays timers and does not lose them. The most that SQS allows."""
VISIBILITY = 6
"""Times the function's timeout. Source: AWS Lambda Developer Guide, on SQS event sources."""
LONGEST_WAIT_FOR_WORKER = 6 * 3_600
"""Seconds that a task may wait for a free worker. Source: API reference of Lambda, the maximum of
MaximumEventAgeInSeconds."""
BATCH = 10
"""Events per call, the most that a FIFO queue gives. Source: AWS Lambda Developer Guide."""
SIGNING_KEY_LENGTH = 64
"""Characters."""


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
    languages and other stacks: secret as a whole, because the signing key is in it."""

    def __init__(
        self, name: str, args: WorkflowEngineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        check_name(name, LONGEST_ENGINE_NAME)
        options = EngineOptions.from_args(args)
        for function in (options.worker, options.orchestrator):
            # Before anything is registered: half an engine is worse than none.
            packaged(FunctionOptions.from_args(function))
        super().__init__("mini-workflow:index:WorkflowEngine", name, {}, opts)
        if all(one.get("concurrency") is None for one in (options.worker, options.orchestrator)):
            pulumi.log.warn(
                f"{name}: as many tasks at a time as the account allows leave no call for the "
                "orchestrator. Give the engine the option concurrency, such as 100: as many calls are "
                "the orchestrator's own then; or give one to the worker, which limits it",
                resource=self,
            )
        self._name_of = name
        self._options = options
        self._mine = pulumi.ResourceOptions(parent=self)

        suffix = random.RandomId(f"{name}-suffix", byte_length=4, opts=self._mine)
        key = self._signing_key()
        self.history = self._bucket()
        visibility = VISIBILITY * FunctionOptions.from_args(options.orchestrator).timeout
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

        worker = self._worker(key, failures)
        self.worker = worker.function
        orchestrator = self._orchestrator(
            worker, key, unprocessed, group, scheduler_role, undelivered
        )
        self.orchestrator = orchestrator.function
        self._feed(worker, orchestrator)
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
        # What `link=[engine]` takes: in parts, of which the signing key alone is secret. It is no
        # output of the component, so that it is not declared above.
        self.linked = self._linked(key, orchestrator)
        self.link = links.as_output(self.linked)
        # For roles that are not made here. No output either.
        self.needs = {"worker": worker.needs, "orchestrator": orchestrator.needs}
        if options.topics is not None:
            monitoring.alarms(
                name,
                set_aside={
                    "events": unprocessed,
                    "timers": lost_timers,
                    "failures": lost_failures,
                    "schedules": undelivered,
                },
                events=self.events,
                worker=self.worker,
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
                {"worker": self.worker, "orchestrator": self.orchestrator},
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

    def _signing_key(self) -> pulumi.Output[str]:
        given = self._options.signing_key
        if given is not None:
            return pulumi.Output.secret(given)
        return random.RandomPassword(
            f"{self._name_of}-signing-key",
            length=SIGNING_KEY_LENGTH,
            special=False,
            opts=self._mine,
        ).result

    # The bucket

    def _bucket(self) -> aws.s3.Bucket:
        name = self._name_of
        retained = self._options.removal == "retain"
        # What is kept stays as private and encrypted as it was.
        kept = pulumi.ResourceOptions(parent=self, retain_on_delete=retained)
        bucket = (
            aws.s3.Bucket(
                f"{name}-history",
                force_destroy=not retained,
                tags=self._options.tags,
                opts=kept,
            )
            if self._options.history is None
            # What is only read is never deleted.
            else aws.s3.Bucket.get(f"{name}-history", self._options.history, opts=self._mine)
        )
        private = aws.s3.BucketPublicAccessBlock(
            f"{name}-history-private",
            bucket=bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=kept,
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-history-encryption",
            bucket=bucket.bucket,
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=kept,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-history-lifecycle",
            bucket=bucket.bucket,
            rules=[
                {
                    "id": "payloads",
                    "status": "Enabled",
                    "filter": {"prefix": "payloads/"},
                    "expiration": {"days": self._options.payload_retention},
                },
                {
                    "id": "uploads",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 1},
                },
            ],
            opts=kept,
        )
        aws.s3.BucketPolicy(
            f"{name}-history-policy",
            bucket=bucket.bucket,
            policy=bucket.arn.apply(policies.encrypted_transport_only),
            # S3 changes one of the two at a time.
            opts=pulumi.ResourceOptions.merge(kept, pulumi.ResourceOptions(depends_on=[private])),
        )
        return bucket

    # Queues

    def _queue(self, what: str, receives: int, **more: Any) -> tuple[aws.sqs.Queue, aws.sqs.Queue]:
        """A queue and the one for the messages that cannot be processed."""
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
            sqs_managed_sse_enabled=True,
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
            policy=pulumi.Output.all(events=self.events.arn, undelivered=undelivered.arn).apply(
                lambda arns: policies.allowing(policies.scheduler(**arns))
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
    ) -> Function:
        own = {"engine": links.OWN, "environment": variables, "permissions": permissions}
        given: Any = {**args, "link": inputs.joined([own], args["link"])}
        return Function(f"{self._name_of}-{what}", given, self._mine)

    def _worker(self, key: pulumi.Output[str], failures: aws.sqs.Queue) -> Function:
        worker = self._function(
            "worker",
            self._options.worker,
            {
                settings.BUCKET_NAME: self.history.bucket,
                settings.QUEUE_URL: self.events.url,
                settings.SIGNING_KEY: key,
            },
            pulumi.Output.all(
                history=self.history.arn, events=self.events.arn, failures=failures.arn
            ).apply(lambda arns: policies.worker(**arns)),
        )
        aws.lambda_.FunctionEventInvokeConfig(
            f"{self._name_of}-worker-invocations",
            function_name=worker.function.name,
            qualifier=worker.qualifier,
            # The engine decides what is tried again, and when.
            maximum_retry_attempts=0,
            maximum_event_age_in_seconds=LONGEST_WAIT_FOR_WORKER,
            destination_config={"on_failure": {"destination": failures.arn}},
            # Lambda checks whether the function may send there.
            opts=pulumi.ResourceOptions(parent=self, depends_on=worker.before),
        )
        return worker

    def _orchestrator(
        self,
        worker: Function,
        key: pulumi.Output[str],
        unprocessed: aws.sqs.Queue,
        group: aws.scheduler.ScheduleGroup,
        scheduler_role: aws.iam.Role,
        undelivered: aws.sqs.Queue,
    ) -> Function:
        return self._function(
            "orchestrator",
            self._options.orchestrator,
            {
                settings.BUCKET_NAME: self.history.bucket,
                settings.QUEUE_URL: self.events.url,
                settings.QUEUE_ARN: self.events.arn,
                settings.DLQ_URL: unprocessed.url,
                settings.TIMER_QUEUE_URL: self.timers.url,
                settings.WORKER_FUNCTION_NAME: worker.called,
                settings.ROLE_ARN: scheduler_role.arn,
                settings.SCHEDULE_GROUP: group.name,
                settings.SCHEDULE_DLQ_ARN: undelivered.arn,
                settings.SIGNING_KEY: key,
            },
            pulumi.Output.all(
                history=self.history.arn,
                events=self.events.arn,
                unreadable=unprocessed.arn,
                timers=self.timers.arn,
                worker=worker.arn,
                schedules=group.arn.apply(_schedules_of),
                scheduler_role=scheduler_role.arn,
            ).apply(lambda arns: policies.orchestrator(**arns)),
        )

    def _feed(self, worker: Function, orchestrator: Function) -> None:
        """Connect the queue of events to the orchestrator, when both functions are ready for it."""
        # Orchestrator, worker and queue call each other as long as a workflow runs. Lambda takes
        # that for a mistake, and stops it after some sixteen steps unless it is told otherwise.
        allowed = [
            aws.lambda_.FunctionRecursionConfig(
                f"{self._name_of}-{what}-recursion",
                function_name=function.function.name,
                recursive_loop="Allow",
                opts=self._mine,
            )
            for what, function in (("worker", worker), ("orchestrator", orchestrator))
        ]
        most = self._options.concurrency
        aws.lambda_.EventSourceMapping(
            f"{self._name_of}-events-mapping",
            event_source_arn=self.events.arn,
            function_name=orchestrator.arn,
            batch_size=BATCH,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config=None if most is None else {"maximum_concurrency": most},
            tags=self._options.tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*orchestrator.before, *allowed]),
        )

    def _linked(self, key: pulumi.Output[str], orchestrator: Function) -> Link:
        return {
            "engine": self._name_of,
            "environment": {
                settings.BUCKET_NAME: self.history.bucket,
                settings.QUEUE_URL: self.events.url,
                settings.QUEUE_ARN: self.events.arn,
                settings.ORCHESTRATOR_FUNCTION_NAME: orchestrator.called,
                settings.SIGNING_KEY: key,
            },
            "permissions": pulumi.Output.all(
                history=self.history.arn,
                events=self.events.arn,
                orchestrator=orchestrator.arn,
            ).apply(lambda arns: policies.starter(**arns)),  # type: ignore[typeddict-item]
        }


def _schedules_of(group: str) -> str:
    """The ARN of the schedules of a group, from the ARN of the group."""
    # The names of schedules are not known before they exist.
    return group.replace(":schedule-group/", ":schedule/") + "/*"
