package validate

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func TestRequests(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		name  string
		m     proto.Message
		check func(proto.Message) error
		in    string
		want  string
	}{
		{"run", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","count":10,"launchType":"EC2","platformVersion":"LATEST","group":"family:a","startedBy":"me","enableExecuteCommand":false,"networkConfiguration":{"awsvpcConfiguration":{"subnets":[]}}}`, ""},
		{"run nothing", &pb.RunTaskRequest{}, runTask, `{}`, "taskDefinition: required: give a family, family:revision or ARN"},
		{"run too many", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","count":11}`, "count: 11 is out of range: give 1 to 10"},
		{"run none", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","count":0}`, "count: 0 is out of range: give 1 to 10"},
		{"run fargate", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","launchType":"FARGATE"}`, "launchType FARGATE: is not supported yet: use EC2"},
		{"run in a service's group", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","group":"service:x"}`, `group: "service:x" begins with service:, which is kept for services: give another`},
		{"run exec", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","enableExecuteCommand":true}`, "enableExecuteCommand: is not supported yet: leave it out or give false"},
		{"run token", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","clientToken":"a b"}`, `clientToken: "a b" is not usable: give at most 64 visible ASCII characters`},
		{"run override memory", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","overrides":{"containerOverrides":[{"name":"a","memory":5}]}}`, "overrides.containerOverrides[0].memory: 5 is out of range: give 6 to 33554432 MiB"},
		{"run override twice", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","overrides":{"containerOverrides":[{"name":"a"},{"name":"a"}]}}`, `overrides.containerOverrides[1].name: "a" is given twice: override each container once`},
		{"run strategy", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","placementStrategy":[{"type":"spread","field":"instanceId"},{"type":"spread","field":"attribute:a.b"},{"type":"binpack","field":"memory"},{"type":"random"}]}`, ""},
		{"run strategy field", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","placementStrategy":[{"type":"spread","field":"zone"},{"type":"binpack","field":"disk"},{"type":"random","field":"x"},{}]}`,
			`placementStrategy[0].field: "zone" cannot be spread over: give instanceId, host or attribute:NAME; placementStrategy[1].field: "disk" cannot be packed by: give cpu or memory; placementStrategy[2].field: random takes none: leave it out; placementStrategy[3].type: required: give spread, binpack or random`},
		{"run constraints", &pb.RunTaskRequest{}, runTask, `{"taskDefinition":"a","placementConstraints":[{"type":"distinctInstance","expression":"x"},{"type":"memberOf"},{}]}`,
			`placementConstraints[0].expression: distinctInstance takes none: leave it out; placementConstraints[1].expression: required: give an expression such as "attribute:rack == a"; placementConstraints[2].type: required: give distinctInstance or memberOf`},
		{"start on none", &pb.StartTaskRequest{}, startTask, `{"taskDefinition":"a"}`, "containerInstances: there are 0: give 1 to 10"},
		{"start", &pb.StartTaskRequest{}, startTask, `{"taskDefinition":"a","containerInstances":["x"]}`, ""},

		{"create", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b","desiredCount":0,"loadBalancers":[],"serviceConnectConfiguration":{"enabled":false},
			"deploymentConfiguration":{"maximumPercent":200,"minimumHealthyPercent":100,"strategy":"ROLLING","bakeTimeInMinutes":0,"alarms":{"alarmNames":[],"enable":false,"rollback":false},"deploymentCircuitBreaker":{"enable":true,"rollback":true}},
			"deploymentController":{"type":"ECS"},"availabilityZoneRebalancing":"DISABLED","propagateTags":"SERVICE"}`, ""},
		{"create without count", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b"}`, "desiredCount: required for schedulingStrategy REPLICA: give 0 or more"},
		{"create negative", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b","desiredCount":-1}`, "desiredCount: -1 is out of range: give 0 to 50000"},
		{"create name", &pb.CreateServiceRequest{}, createService, `{"serviceName":"` + long + `","taskDefinition":"b","desiredCount":1}`, `serviceName: "` + long[:60] + `..." is not a name: use 1 to 255 letters, digits, hyphens and underscores`},
		{"create with controller", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b","desiredCount":1,"deploymentController":{"type":"EXTERNAL"}}`, "deploymentController.type EXTERNAL: is not supported yet: use ECS"},
		{"create with load balancer", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b","desiredCount":1,"loadBalancers":[{"containerPort":1}]}`, "loadBalancers: is not supported yet: publish a hostPort instead"},
		{"percent range", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b","desiredCount":1,"deploymentConfiguration":{"maximumPercent":99,"minimumHealthyPercent":101}}`,
			"deploymentConfiguration.minimumHealthyPercent: 101 is out of range: give 0 to 100; deploymentConfiguration.maximumPercent: 99 is out of range: give 100 to 200"},
		{"rollback without breaker", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b","desiredCount":1,"deploymentConfiguration":{"deploymentCircuitBreaker":{"enable":false,"rollback":true}}}`,
			"deploymentConfiguration.deploymentCircuitBreaker.rollback: it needs enable: set enable to true or rollback to false"},
		{"daemon", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b","schedulingStrategy":"DAEMON"}`, ""},
		{"daemon with everything", &pb.CreateServiceRequest{}, createService, `{"serviceName":"a","taskDefinition":"b","schedulingStrategy":"DAEMON","desiredCount":2,"deploymentConfiguration":{"maximumPercent":200},"placementStrategy":[{"type":"random"}],"placementConstraints":[{"type":"distinctInstance"}]}`,
			"desiredCount: schedulingStrategy DAEMON runs one task on each container instance: leave it out; deploymentConfiguration.maximumPercent: 200 cannot be used with schedulingStrategy DAEMON: give 100 or leave it out; placementStrategy: schedulingStrategy DAEMON takes none: leave it out; placementConstraints[0].type: schedulingStrategy DAEMON does not take distinctInstance: leave it out"},
		{"update", &pb.UpdateServiceRequest{}, updateService, `{"service":"a","placementStrategy":[],"loadBalancers":[],"forceNewDeployment":true}`, ""},
		{"update nothing", &pb.UpdateServiceRequest{}, updateService, `{}`, "service: required: give a name or ARN"},

		{"cluster", &pb.CreateClusterRequest{}, createCluster, `{"clusterName":"a","settings":[{"name":"containerInsights","value":"disabled"}],"capacityProviders":[]}`, ""},
		{"cluster name", &pb.CreateClusterRequest{}, createCluster, `{"clusterName":"a b"}`, `clusterName: "a b" is not a name: use 1 to 255 letters, digits, hyphens and underscores`},
		{"cluster insights", &pb.CreateClusterRequest{}, createCluster, `{"settings":[{"name":"containerInsights","value":"enabled"}]}`, `settings[0].value is "enabled": is not supported yet: use disabled: containerInsights can only be disabled`},
		{"cluster providers", &pb.CreateClusterRequest{}, createCluster, `{"capacityProviders":["FARGATE"]}`, "capacityProviders: is not supported yet: leave it out; tasks run on the cluster's container instances"},
		{"list tasks of a daemon", &pb.ListTasksRequest{}, func(m proto.Message) error { return ListTasks(m.(*pb.ListTasksRequest)) }, `{"daemonName":"a"}`, "daemonName: is not supported yet: leave it out"},
		{"list services", &pb.ListServicesRequest{}, func(m proto.Message) error { return ListServices(m.(*pb.ListServicesRequest)) }, `{"resourceManagementType":"CUSTOMER","launchType":"EC2"}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := ecsjson.Unmarshal([]byte(tc.in), tc.m); err != nil {
				t.Fatal(err)
			}
			same(t, tc.check(tc.m), tc.want)
		})
	}
}

func runTask(m proto.Message) error       { return RunTask(m.(*pb.RunTaskRequest)) }
func startTask(m proto.Message) error     { return StartTask(m.(*pb.StartTaskRequest)) }
func createService(m proto.Message) error { return CreateService(m.(*pb.CreateServiceRequest)) }
func updateService(m proto.Message) error { return UpdateService(m.(*pb.UpdateServiceRequest), false) }
func createCluster(m proto.Message) error { return CreateCluster(m.(*pb.CreateClusterRequest)) }

func TestSizes(t *testing.T) {
	for _, tc := range []struct {
		in          string
		cpu, memory int64 // -1 is not a size
	}{
		{"512", 512, 512}, {"1 vCPU", 1024, -1}, {".5vcpu", 512, -1}, {"0.25 vCPU", 256, -1}, {"1 GB", -1, 1024},
		{"0.5GB", -1, 512}, {"", -1, -1}, {"-1", -1, -1}, {"1e3", -1, -1}, {"1 MB", -1, -1}, {"0.3 GB", -1, -1},
		{"99999999999999999999", -1, -1}, {"1.vCPU", -1, -1},
	} {
		if got, ok := ParseCPU(tc.in); ok != (tc.cpu >= 0) || ok && got != tc.cpu {
			t.Errorf("cpu %q: %d, %v", tc.in, got, ok)
		}
		if got, ok := ParseMemory(tc.in); ok != (tc.memory >= 0) || ok && got != tc.memory {
			t.Errorf("memory %q: %d, %v", tc.in, got, ok)
		}
	}
}

func TestOverridesFitTheTaskDefinition(t *testing.T) {
	def := &pb.TaskDefinition{Family: "f", Revision: 2, ContainerDefinitions: []*pb.ContainerDefinition{{Name: "a", Memory: proto.Int32(64), MemoryReservation: proto.Int32(32)}}}
	for in, want := range map[string]string{
		`{"containerOverrides":[{"name":"a","memory":32}]}`: "",
		`{"containerOverrides":[{"name":"b"}]}`:             `overrides.containerOverrides[0].name: "b" is not a container of task definition f:2`,
		`{"containerOverrides":[{"name":"a","memory":31}]}`: "overrides.containerOverrides[0].memory: 31 MiB is below memoryReservation, 32",
	} {
		var o pb.TaskOverride
		if err := ecsjson.Unmarshal([]byte(in), &o); err != nil {
			t.Fatal(err)
		}
		same(t, Overrides(def, &o), want)
	}
}

func TestPercentsThatBlock(t *testing.T) {
	same(t, Percents(&pb.DeploymentConfiguration{MaximumPercent: proto.Int32(100), MinimumHealthyPercent: proto.Int32(100)}),
		"deploymentConfiguration: maximumPercent and minimumHealthyPercent cannot both be 100, as that blocks deployments: raise the one or lower the other")
	same(t, Percents(&pb.DeploymentConfiguration{MaximumPercent: proto.Int32(100), MinimumHealthyPercent: proto.Int32(99)}), "")
}

func TestAttributes(t *testing.T) {
	for _, tc := range []struct {
		in     []*pb.Attribute
		values bool
		want   string
	}{
		{[]*pb.Attribute{{Name: "rack", Value: "a b", TargetId: "x"}}, true, ""},
		{nil, true, "attributes: there are 0: give 1 to 10"},
		{[]*pb.Attribute{{Name: "a b", TargetId: "x"}}, true, `attributes[0].name: "a b" is not an attribute's name: use 1 to 128 letters, digits and _ . / -`},
		{[]*pb.Attribute{{Name: "a", Value: " b", TargetId: "x"}}, true, `attributes[0].value: " b" is not usable: use at most 128 letters, digits, spaces inside and _ . / - @ : \`},
		{[]*pb.Attribute{{Name: "a"}}, false, "attributes[0].targetId: required: name a container instance by its id or ARN"},
	} {
		same(t, Attributes(tc.in, tc.values), tc.want)
	}
}
