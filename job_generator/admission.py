"""What the API server itself refuses: `rules.py` in CEL (KEP-2876), and the fields that cannot change.

A rule stands on the map that holds all of its fields, since a rule of a single field does not see it come
or go. Rules are counted by cost before they are accepted: every list, map and text in the schema has an end,
and numbers are formatted with `%d`, never turned into texts. A map whose default is empty is checked as it is, before
the defaults inside it are filled in.
"""

from __future__ import annotations

from job_generator.validation import FORBIDDEN, REQUIRED, Validation, fixed, held

ALL = "self.workers.replicas + size(self.sites)"
COHORT = f"(has(self.selection.perRound) ? self.selection.perRound : {ALL})"
SECURE = f"(has(self.secureAggregation) ? self.secureAggregation.enabled : {COHORT} >= 3)"
BUCKETS = "(has(self.secureAggregation) ? self.secureAggregation.buckets : 1)"
BUCKET = f"{COHORT} / {BUCKETS}"
WHOLE = "!has(self.privacy) || self.privacy.mechanism.name != 'dp_sgd'"
STEADY = "!has(self.privacy) || !has(self.privacy.adaptiveClip)"
SPARSE = (
    "(has(self.secureAggregation) && has(self.secureAggregation.profile) ? "
    f"self.secureAggregation.profile == 'cross-device' : {BUCKET} > 100)"
)
TOLERATE = "has(self.secureAggregation) && has(self.secureAggregation.tolerate)"
LEAST = (
    f"({SPARSE} ? {BUCKET} - (3 * ({BUCKET}) + 9) / 10 : "
    f"{TOLERATE} ? {BUCKET} - self.secureAggregation.tolerate : 2 * ({BUCKET}) / 3 + 1)"
)
LEAGUE = f"({COHORT} + 19) / 20"
COMPARES = "self.aggregation.name in ['median', 'trimmed_mean', 'krum']"
PARTS = f"({SECURE} ? {BUCKETS} : has(self.selection.minimum) ? self.selection.minimum : {COHORT})"

FIT = (
    Validation(
        rule=f"{ALL} >= 1",
        message="expected at least one worker, here or in spec.sites",
        field="workers.replicas",
    ),
    Validation(
        rule=f"!has(self.selection.perRound) || self.selection.perRound <= {ALL}",
        message="%d is more than the workers and sites together, %d; expected at most that",
        values=f"self.selection.perRound, {ALL}",
        plain="this is more than the workers and sites together; expected at most that",
        field="selection.perRound",
    ),
    Validation(
        rule=f"self.selection.extra == 0 || {COHORT} + self.selection.extra <= {ALL}",
        message="%d more than the cohort of %d are asked, but there are %d workers; expected fewer",
        values=f"self.selection.extra, {COHORT}, {ALL}",
        plain="the cohort and these are more than there are workers; expected fewer",
        field="selection.extra",
    ),
    Validation(
        rule=f"!has(self.selection.minimum) || self.selection.minimum <= {COHORT}",
        message="%d is more than the cohort, %d; expected at most that",
        values=f"self.selection.minimum, {COHORT}",
        plain="this is more than the cohort; expected at most that",
        field="selection.minimum",
    ),
    Validation(
        rule=f"!{SECURE} || {COHORT} >= 3",
        message="secure aggregation needs three in a round, not %d; expected more, or enabled: false",
        values=COHORT,
        plain="secure aggregation needs three in a round; expected more, or enabled: false",
        field="secureAggregation",
    ),
    Validation(
        rule=f"!({TOLERATE}) || (!{SPARSE} && 2 * self.secureAggregation.tolerate < {BUCKET})",
        message="of %d in a round fewer than half may be lost, and in cross-device three tenths; "
        "expected a smaller number than %d, or none",
        values=f"{BUCKET}, self.secureAggregation.tolerate",
        plain="fewer than half of a round may be lost, and in cross-device three tenths; "
        "expected a smaller number, or none",
        field="secureAggregation.tolerate",
    ),
    Validation(
        rule=f"!({TOLERATE}) || {SPARSE} || !has(self.privacy) || self.privacy.mechanism.name != 'skellam' || "
        f"2 * self.secureAggregation.tolerate >= {COHORT} || "
        f"2 * self.secureAggregation.tolerate < {COHORT} - {LEAGUE}",
        message="under skellam %d of %d in a round may be in league with the server, and two sums of the round could "
        "open; expected a smaller number than %d, or none",
        values=f"{LEAGUE}, {COHORT}, self.secureAggregation.tolerate",
        plain="under skellam one in twenty of a round may be in league with the server, and two sums of the round "
        "could open; expected a smaller number, or none",
        field="secureAggregation.tolerate",
    ),
    Validation(
        rule=f"!has(self.selection.minimum) || !{SECURE} || self.selection.minimum >= {LEAST}",
        message="%d is fewer than the %d with whom a secure sum opens; expected at least that, "
        "or secureAggregation.enabled: false",
        values=f"self.selection.minimum, {LEAST}",
        plain="this is fewer than those with whom a secure sum opens; expected at least as many, "
        "or secureAggregation.enabled: false",
        field="selection.minimum",
    ),
    Validation(
        rule=f"{BUCKETS} == 1 || ({SECURE} && {BUCKET} >= 3)",
        message="%d buckets leave fewer than three of %d workers for one, or secure aggregation is off; expected fewer",
        values=f"{BUCKETS}, {COHORT}",
        plain="a bucket is left fewer than three of the cohort, or secure aggregation is off; expected fewer buckets",
        field="secureAggregation.buckets",
    ),
    Validation(
        rule=f"{BUCKETS} == 1 || !has(self.privacy)",
        message="with buckets the noise of differential privacy, made for the whole sum, is too little; "
        "expected no buckets, or no privacy",
        field="secureAggregation.buckets",
    ),
    Validation(
        rule=f"{BUCKETS} == 1 || self.selection.extra == 0",
        message="with buckets those who are asked are those who close the round; expected 0",
        field="selection.extra",
    ),
    Validation(
        rule=f"{BUCKETS} == 1 || self.aggregation.name != 'mean'",
        message="mean adds all buckets up; expected median, trimmed_mean or krum, or no secureAggregation.buckets",
        field="aggregation",
    ),
    Validation(
        rule=f"!({COMPARES}) || !has(self.privacy)",
        message="this rule compares parts of a round, but the noise is made for its sum; expected mean, or no privacy",
        field="aggregation",
    ),
    Validation(
        rule=f"!({COMPARES}) || !{SECURE} || {BUCKETS} > 1",
        message="this rule compares updates, and nobody sees a single one; expected secureAggregation.buckets, "
        "or secureAggregation.enabled: false",
        field="aggregation",
    ),
    Validation(
        rule=f"!({COMPARES}) || !has(self.aggregation.hostile) || {PARTS} >= "
        "2 * self.aggregation.hostile + (self.aggregation.name == 'krum' ? 3 : 1)",
        message="%d hostile workers are more than this rule withstands among %d buckets or updates; "
        "expected fewer, or secureAggregation.buckets for more",
        values=f"self.aggregation.hostile, {PARTS}",
        plain="this rule withstands fewer hostile workers among so many buckets or updates; "
        "expected fewer, or secureAggregation.buckets for more",
        field="aggregation",
    ),
    Validation(
        rule=f"!{SECURE} || !has(self.compression) || size(self.compression) == 0",
        message="secure aggregation sends whole numbers already; expected no compression, or "
        "secureAggregation.enabled: false",
        field="compression",
    ),
    Validation(
        rule="!has(self.privacy) || self.privacy.mechanism.name in ['dp_sgd', 'gaussian', 'local', 'skellam']",
        message="no job can have a mechanism whose cost is not known; expected dp_sgd, gaussian, local or skellam",
        field="privacy.mechanism",
    ),
    Validation(
        rule="!has(self.privacy) || (self.privacy.unit == 'example') == (self.privacy.mechanism.name == 'dp_sgd')",
        message="dp_sgd hides an example, and every other mechanism a worker; expected the unit that goes with it",
        field="privacy.unit",
    ),
    Validation(
        rule=f"{WHOLE} || self.program.framework in ['numpy', 'sklearn']",
        message="dp_sgd needs the gradient of each example, which programs of this framework do not give; "
        "expected numpy or sklearn",
        field="program.framework",
    ),
    Validation(
        rule="self.program.framework == 'paddle' || self.strategy.name != 'fedprox' || "
        "!has(self.strategy.mu) || double(self.strategy.mu) == 0.0",
        message="fedprox adds a term to the loss, which programs of numpy and sklearn keep to themselves; "
        "expected fedavg, or program.framework paddle",
        field="strategy",
    ),
    Validation(
        rule="self.program.framework != 'sklearn' || self.strategy.name != 'fedsgd'",
        message="fedsgd needs the gradient of the loss, which scikit-learn's estimators do not give; "
        "expected fedavg, or program.framework paddle",
        field="strategy",
    ),
    Validation(
        rule=f"{WHOLE} || !(self.strategy.name in ['fedprox', 'fedsgd'])",
        message="dp_sgd makes the steps of the workers itself; expected fedavg",
        field="strategy",
    ),
    Validation(
        rule=f"!has(self.privacy) || self.privacy.mechanism.name != 'skellam' || {SECURE}",
        message="skellam needs secure aggregation, with three or more in a round; expected that, or gaussian",
        field="privacy.mechanism",
    ),
    Validation(
        rule=f"{STEADY} || self.privacy.mechanism.name in ['gaussian', 'skellam']",
        message="this mechanism releases no count of votes; expected gaussian or skellam, or no adaptiveClip",
        field="privacy.adaptiveClip",
    ),
    Validation(
        rule=f"{STEADY} || {SECURE}",
        message="votes on the clip norm are counted in secure sums; expected secure aggregation, with three or more "
        "in a round, or no adaptiveClip",
        field="privacy.adaptiveClip",
    ),
    Validation(
        rule=f"{STEADY} || !has(self.privacy.adaptiveClip.countNoise) || "
        "2.0 * double(self.privacy.adaptiveClip.countNoise) > double(self.privacy.mechanism.noiseMultiplier)",
        message="with so little noise on the count the votes alone cost more than noiseMultiplier allows; "
        "expected more than half of it",
        field="privacy.adaptiveClip.countNoise",
    ),
    Validation(
        rule="!has(self.privacy) || !has(self.compression) || size(self.compression) == 0",
        message="differential privacy bounds updates and adds noise to them; expected no compression of the result",
        field="compression",
    ),
    Validation(
        rule="!has(self.privacy) || !has(self.target) || self.privacy.metrics != 'Suppressed'",
        message="nobody measures the model where privacy.metrics is Suppressed; expected Released, or no target",
        field="target",
    ),
    Validation(
        rule="!has(self.privacy) || !has(self.earlyStopping) || self.privacy.metrics != 'Suppressed'",
        message="nobody measures the model where privacy.metrics is Suppressed; expected Released, or no earlyStopping",
        field="earlyStopping",
    ),
    Validation(
        rule="!has(self.selection.stallSeconds) || "
        "double(self.selection.stallSeconds) <= double(self.selection.deadlineSeconds)",
        message="stallSeconds is longer than deadlineSeconds; expected at most that",
        field="selection.stallSeconds",
    ),
    Validation(
        at=("target",),
        rule="has(self.atLeast) != has(self.atMost)",
        message="expected one of atLeast and atMost",
        field="atLeast",
    ),
    Validation(
        at=("initialModel",),
        rule="!has(self.uri) && "
        "[has(self.persistentVolumeClaim), has(self.configMap), has(self.store)].exists_one(given, given)",
        message="a cluster reads no file of yours (uri); expected one of persistentVolumeClaim, configMap and store",
        field="persistentVolumeClaim",
    ),
    Validation(
        rule="!has(self.initialModel) || !has(self.initialModel.round) || self.rounds > self.initialModel.round",
        message="%d counts all rounds, and initialModel.round says that %d are done; expected more",
        values="self.rounds, self.initialModel.round",
        plain="this counts all rounds, also those that are done, as initialModel.round says; expected more than these",
        field="rounds",
    ),
    Validation(
        at=("program", "source"),
        rule="[has(self.configMap), has(self.image), has(self.persistentVolumeClaim)].exists_one(given, given)",
        message="expected one of configMap, image and persistentVolumeClaim",
        field="configMap",
    ),
    Validation(
        at=("workers",),
        rule="!has(self.maxReplicas) || self.replicas <= self.maxReplicas",
        message="%d is less than replicas, %d; expected at least that",
        values="self.maxReplicas, self.replicas",
        plain="this is less than replicas; expected at least that",
        field="maxReplicas",
    ),
    Validation(
        rule="!has(self.workers.maxReplicas) || has(self.selection.perRound)",
        message="expected a cohort, as workers.maxReplicas lets the workers change",
        field="selection.perRound",
        reason=REQUIRED,
    ),
    Validation(
        at=("server", "storage"),
        rule="!has(self.existingClaim) || "
        "!(has(self.size) || has(self.storageClassName) || self.onDelete == 'Delete')",
        message="a claim that is there already has a size, a class and an end of its own; expected one or the other",
        field="existingClaim",
    ),
    Validation(
        at=("server", "storage"),
        rule="!has(self.uri) || "
        "!(has(self.size) || has(self.storageClassName) || has(self.existingClaim) || self.onDelete == 'Delete')",
        message="a store of objects has no volume and no claim; expected one or the other",
        field="uri",
    ),
    Validation(
        at=("server", "storage"),
        rule="!has(self.secretName) || has(self.uri)",
        message="the Secret is for a store of objects; expected its uri, or no secretName",
        field="secretName",
    ),
    Validation(
        rule="has(self.network.external) == self.sites.exists(site, has(site.external))",
        message="expected network.external when a site is external, and only then",
        field="network.external",
    ),
    Validation(
        at=("network",),
        rule="!has(self.egress) || size(self.egress) == 0 || self.policy == 'Isolated'",
        message="under the policy Open every address may be dialled; expected Isolated, or no list",
        field="egress",
    ),
    Validation(
        at=("network", "egress", "[]"),
        rule="isCIDR(self.cidr) && cidr(self.cidr) == cidr(self.cidr).masked()",
        message="expected a block of addresses such as 10.0.0.0/8",
        field="cidr",
    ),
    Validation(
        at=("sites", "[]"),
        rule="!has(self.external) || !(has(self.data) || has(self.template))",
        message="an external site has its own data and pods; expected no data and no template",
        field="external",
    ),
)

LASTING = (
    *fixed(
        "managedBy", "seed", "program", "initialModel", "target", "earlyStopping",
        "strategy", "aggregation", "selection", "compression",
        "secureAggregation", "privacy", "evaluation",
        "preRunningDeadlineSeconds", "network",
    ),
    *fixed("checkpoint", "storage", at=("server",)),
    *fixed("maxReplicas", "restartsPerWorker", "data", at=("workers",)),
    *fixed("data", "external", at=("sites", "[]")),
    Validation(
        rule="size(self.sites) == size(oldSelf.sites) && "
        "self.sites.all(site, oldSelf.sites.exists(old, old.name == site.name))",
        message="sites cannot come or go; make another job",
        field="sites",
        reason=FORBIDDEN,
    ),
    *map(held, ("server", "scheduler", "workers")),
    Validation(
        rule="self.suspend || self.sites.all(site, oldSelf.sites.all(old, old.name != site.name || "
        "(has(site.template) == has(old.template) && "
        "(!has(site.template) || site.template == old.template))))",
        message="the template of a site can be changed only while the job is suspended",
        field="sites",
        reason=FORBIDDEN,
    ),
    Validation(
        at=("workers",),
        rule="self.replicas == oldSelf.replicas || has(self.maxReplicas)",
        message="a job without maxReplicas keeps its replicas; make another one, with maxReplicas",
        field="replicas",
        reason=FORBIDDEN,
    ),
    Validation(
        rule="self.rounds <= oldSelf.rounds",
        message="%d is more than the %d before; rounds can be lowered only, which ends the job sooner",
        values="self.rounds, oldSelf.rounds",
        plain="rounds can be lowered only, which ends the job sooner",
        field="rounds",
        reason=FORBIDDEN,
    ),
)  # fmt: skip

VALIDATIONS = (*FIT, *LASTING)
