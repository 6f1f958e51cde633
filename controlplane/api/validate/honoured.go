package validate

import "strings"

// members makes rules for members that are honoured whatever their value. A
// group in braces stands for each of its names under what is before it.
func members(paths ...string) rules {
	r := rules{}
	for _, p := range paths {
		head, group, grouped := strings.Cut(p, ".{")
		if !grouped {
			r[p] = rule{}
			continue
		}
		r[head] = rule{}
		for name := range strings.SplitSeq(strings.TrimSuffix(group, "}"), " ") {
			r[head+"."+name] = rule{}
		}
	}
	return r
}

// with adds a rule.
func (r rules) with(path string, of rule) rules {
	r[path] = of
	return r
}

func only(values ...string) rule { return rule{values: values} }
func no(why string) rule         { return rule{refused: true, why: why} }

// Why some members are refused, where "leave it out" is not all there is to say.
const (
	noVolumes  = "leave volumes and mount points out"
	noExec     = "leave it out or give false"
	noProvider = "leave it out; tasks run on the cluster's container instances"
	noNetwork  = "leave it out; it belongs to networkMode awsvpc, and bridge, host and none are supported"
	noSecrets  = "give the value in environment if it is no secret"
)

var taskDefinitionRules = members(
	"family", "executionRoleArn", "cpu", "memory",
	"tags.{key value}",
	"placementConstraints.{type expression}",
	"runtimePlatform",
	"containerDefinitions.{name image cpu memory memoryReservation essential command entryPoint workingDirectory user readonlyRootFilesystem hostname dockerLabels stopTimeout}",
	"containerDefinitions.environment.{name value}",
	// appProtocol says something to Service Connect alone.
	"containerDefinitions.portMappings.{containerPort hostPort protocol name appProtocol}",
	"containerDefinitions.ulimits.{name softLimit hardLimit}",
	"containerDefinitions.linuxParameters.{sharedMemorySize}",
	"containerDefinitions.linuxParameters.capabilities.{add drop}",
	"containerDefinitions.linuxParameters.tmpfs.{containerPath size mountOptions}",
	"containerDefinitions.logConfiguration.{options}",
).
	with("networkMode", only("bridge", "host", "none")).
	with("requiresCompatibilities", only("EC2", "EXTERNAL")).
	with("runtimePlatform.operatingSystemFamily", only("LINUX")).
	with("runtimePlatform.cpuArchitecture", no(`use a placement constraint memberOf with "attribute:ecs.cpu-architecture == x86_64"`)).
	with("taskRoleArn", no("leave it out; tasks get no credentials yet")).
	with("volumes", no(noVolumes)).
	with("containerDefinitions.mountPoints", no(noVolumes)).
	with("containerDefinitions.volumesFrom", no(noVolumes)).
	with("containerDefinitions.secrets", no(noSecrets)).
	with("containerDefinitions.logConfiguration.secretOptions", no(noSecrets)).
	with("containerDefinitions.environmentFiles", no("give the variables in environment")).
	with("containerDefinitions.links", no("use hostPort, or one network with networkMode host")).
	with("containerDefinitions.portMappings.containerPortRange", no("give each port a mapping of its own")).
	with("containerDefinitions.versionConsistency", only("disabled")).
	with("containerDefinitions.logConfiguration.logDriver", only("json-file", "awslogs"))

var overrideRules = []string{
	"overrides.{cpu memory executionRoleArn}",
	"overrides.containerOverrides.{name command cpu memory memoryReservation}",
	"overrides.containerOverrides.environment.{name value}",
}

var runTaskRules = members(append(overrideRules,
	"cluster", "count", "enableECSManagedTags", "group", "referenceId", "startedBy", "taskDefinition", "clientToken",
	"tags.{key value}",
	"placementConstraints.{type expression}",
	"placementStrategy.{type field}",
)...).
	with("launchType", only("EC2")).
	with("platformVersion", only("LATEST")).
	with("propagateTags", only("TASK_DEFINITION", "NONE")).
	with("overrides.taskRoleArn", no("leave it out; tasks get no credentials yet")).
	with("capacityProviderStrategy", no(noProvider)).
	with("enableExecuteCommand", no(noExec)).
	with("networkConfiguration", no(noNetwork))

var startTaskRules = members(append(overrideRules,
	"cluster", "containerInstances", "enableECSManagedTags", "group", "referenceId", "startedBy", "taskDefinition",
	"tags.{key value}",
)...).
	with("propagateTags", only("TASK_DEFINITION", "NONE")).
	with("overrides.taskRoleArn", no("leave it out; tasks get no credentials yet")).
	with("enableExecuteCommand", no(noExec)).
	with("networkConfiguration", no(noNetwork))

// serviceRules are what CreateService and UpdateService share.
func serviceRules(more ...string) rules {
	return members(append(more,
		"cluster", "taskDefinition", "desiredCount", "enableECSManagedTags", "propagateTags", "deploymentController",
		"deploymentConfiguration.{maximumPercent minimumHealthyPercent}",
		"deploymentConfiguration.deploymentCircuitBreaker.{enable rollback}",
		"placementConstraints.{type expression}",
		"placementStrategy.{type field}",
	)...).
		with("deploymentController.type", only("ECS")).
		with("deploymentConfiguration.strategy", only("ROLLING")).
		with("deploymentConfiguration.alarms", no("use deploymentCircuitBreaker")).
		with("availabilityZoneRebalancing", only("DISABLED")).
		with("platformVersion", only("LATEST")).
		with("loadBalancers", no("publish a hostPort instead")).
		with("healthCheckGracePeriodSeconds", no("it belongs to loadBalancers: leave it out")).
		with("capacityProviderStrategy", no(noProvider)).
		with("enableExecuteCommand", no(noExec)).
		with("networkConfiguration", no(noNetwork))
}

var (
	createServiceRules = serviceRules("serviceName", "clientToken", "schedulingStrategy", "tags.{key value}").
				with("launchType", only("EC2"))
	updateServiceRules = serviceRules("service", "forceNewDeployment", "emptyMembers")

	clusterSettings = "containerInsights can only be disabled"

	createClusterRules = members("clusterName", "tags.{key value}", "settings.{name}").
				with("settings.value", rule{values: []string{"disabled"}, why: clusterSettings}).
				with("capacityProviders", no(noProvider)).
				with("defaultCapacityProviderStrategy", no(noProvider))
	updateClusterRules = members("cluster", "settings.{name}").
				with("settings.value", rule{values: []string{"disabled"}, why: clusterSettings})

	listTasksRules    = members("cluster", "containerInstance", "family", "nextToken", "maxResults", "startedBy", "serviceName", "desiredStatus", "launchType")
	listServicesRules = members("cluster", "nextToken", "maxResults", "launchType", "schedulingStrategy").
				with("resourceManagementType", only("CUSTOMER"))
)
