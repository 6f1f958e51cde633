package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const arn = "arn:aws:ecs:us-east-1:123456789012:"

// control is a control plane with what a test puts into it.
type control struct {
	pb.UnimplementedEcsServiceServer
	pb.UnimplementedAdminServiceServer

	mu        sync.Mutex
	tasks     []*pb.Task
	instances []*pb.ContainerInstance
	// services are answered one after the other, the last one again and again.
	services []*pb.Service
	created  *pb.CreateServiceRequest
	updated  *pb.UpdateServiceRequest
	ran      *pb.RunTaskRequest
	stopped  []string
	logs     []string
}

func refused(code codes.Code, reason, message string) error {
	s, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "ecs.amazonaws.com"})
	if err != nil {
		return err
	}
	return s.Err()
}

func (c *control) ListTasks(_ context.Context, r *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	if r.GetCluster() != "default" {
		return nil, refused(codes.NotFound, "ClusterNotFoundException", "Cluster not found.")
	}
	want := "RUNNING"
	if r.GetDesiredStatus() == pb.DesiredStatus_DESIRED_STATUS_STOPPED {
		want = "STOPPED"
	}
	var arns []string
	for _, t := range c.tasks {
		if t.GetDesiredStatus() == want {
			arns = append(arns, t.GetTaskArn())
		}
	}
	// One a page.
	for i, a := range arns {
		if r.GetNextToken() == "" && i == 0 || r.GetNextToken() == a {
			answer := &pb.ListTasksResponse{TaskArns: []string{a}}
			if i+1 < len(arns) {
				answer.NextToken = arns[i+1]
			}
			return answer, nil
		}
	}
	return &pb.ListTasksResponse{}, nil
}

func (c *control) DescribeTasks(_ context.Context, r *pb.DescribeTasksRequest) (*pb.DescribeTasksResponse, error) {
	answer := &pb.DescribeTasksResponse{}
	for _, want := range r.GetTasks() {
		for _, t := range c.tasks {
			if strings.HasSuffix(t.GetTaskArn(), want) {
				answer.Tasks = append(answer.Tasks, t)
			}
		}
	}
	return answer, nil
}

func (c *control) ListContainerInstances(context.Context, *pb.ListContainerInstancesRequest) (*pb.ListContainerInstancesResponse, error) {
	answer := &pb.ListContainerInstancesResponse{}
	for _, i := range c.instances {
		answer.ContainerInstanceArns = append(answer.ContainerInstanceArns, i.GetContainerInstanceArn())
	}
	return answer, nil
}

func (c *control) DescribeContainerInstances(_ context.Context, r *pb.DescribeContainerInstancesRequest) (*pb.DescribeContainerInstancesResponse, error) {
	answer := &pb.DescribeContainerInstancesResponse{}
	for _, want := range r.GetContainerInstances() {
		for _, i := range c.instances {
			if i.GetContainerInstanceArn() == want {
				answer.ContainerInstances = append(answer.ContainerInstances, i)
			}
		}
	}
	return answer, nil
}

func (c *control) DescribeServices(context.Context, *pb.DescribeServicesRequest) (*pb.DescribeServicesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.services) == 0 {
		return &pb.DescribeServicesResponse{Failures: []*pb.Failure{{Arn: arn + "service/default/web", Reason: "MISSING"}}}, nil
	}
	s := c.services[0]
	if len(c.services) > 1 {
		c.services = c.services[1:]
	}
	return &pb.DescribeServicesResponse{Services: []*pb.Service{s}}, nil
}

func (c *control) CreateService(_ context.Context, r *pb.CreateServiceRequest) (*pb.CreateServiceResponse, error) {
	c.created = r
	return &pb.CreateServiceResponse{Service: &pb.Service{ServiceName: r.GetServiceName(), TaskDefinition: arn + "task-definition/web:2", DesiredCount: r.GetDesiredCount()}}, nil
}

func (c *control) UpdateService(_ context.Context, r *pb.UpdateServiceRequest) (*pb.UpdateServiceResponse, error) {
	c.updated = r
	return &pb.UpdateServiceResponse{Service: &pb.Service{ServiceName: r.GetService(), TaskDefinition: arn + "task-definition/web:2", DesiredCount: r.GetDesiredCount()}}, nil
}

func (c *control) DescribeTaskDefinition(context.Context, *pb.DescribeTaskDefinitionRequest) (*pb.DescribeTaskDefinitionResponse, error) {
	no := false
	return &pb.DescribeTaskDefinitionResponse{TaskDefinition: &pb.TaskDefinition{
		ContainerDefinitions: []*pb.ContainerDefinition{{Name: "side", Essential: &no}, {Name: "main"}},
	}}, nil
}

func (c *control) RunTask(_ context.Context, r *pb.RunTaskRequest) (*pb.RunTaskResponse, error) {
	c.ran = r
	if r.GetTaskDefinition() == "big" {
		return &pb.RunTaskResponse{Failures: []*pb.Failure{{Reason: "RESOURCE:MEMORY"}, {Reason: "RESOURCE:MEMORY"}}}, nil
	}
	return &pb.RunTaskResponse{Tasks: c.tasks}, nil
}

func (c *control) StopTask(_ context.Context, r *pb.StopTaskRequest) (*pb.StopTaskResponse, error) {
	c.stopped = append(c.stopped, r.GetTask())
	return &pb.StopTaskResponse{Task: &pb.Task{TaskArn: r.GetTask()}}, nil
}

func (c *control) GetTaskLogs(_ *pb.GetTaskLogsRequest, s grpc.ServerStreamingServer[pb.GetTaskLogsResponse]) error {
	for _, piece := range c.logs {
		if err := s.Send(&pb.GetTaskLogsResponse{Data: []byte(piece)}); err != nil {
			return err
		}
	}
	return nil
}

// plim runs the command line against a control plane.
func plim(t *testing.T, c *control, args ...string) (code int, out, errs string) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	pb.RegisterEcsServiceServer(server, c)
	pb.RegisterAdminServiceServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	defer serving.Wait()
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	a := &app{out: &o, err: &e, getenv: func(string) string { return "" }, now: func() time.Time { return now }, conn: conn}
	code = a.run(t.Context(), args)
	return code, o.String(), e.String()
}

func host(n, name, address string) *pb.ContainerInstance {
	return &pb.ContainerInstance{
		ContainerInstanceArn: arn + "container-instance/default/" + strings.Repeat(n, 32), Ec2InstanceId: name, Status: "ACTIVE", AgentConnected: true,
		Attributes:          []*pb.Attribute{{Name: "plimsoll.host-address", Value: address}},
		RegisteredResources: []*pb.Resource{{Name: "CPU", IntegerValue: 2048}, {Name: "MEMORY", IntegerValue: 4096}},
		RemainingResources:  []*pb.Resource{{Name: "CPU", IntegerValue: 1920}, {Name: "MEMORY", IntegerValue: 4032}},
	}
}

func task(id, host string, port int32) *pb.Task {
	container := int32(8080)
	return &pb.Task{
		TaskArn: arn + "task/default/" + id + strings.Repeat("0", 32-len(id)), ContainerInstanceArn: host, Group: "service:web",
		TaskDefinitionArn: arn + "task-definition/web:2", LastStatus: "RUNNING", DesiredStatus: "RUNNING",
		CreatedAt: timestamppb.New(now.Add(-time.Minute)), StartedAt: timestamppb.New(now.Add(-50 * time.Second)),
		Containers: []*pb.Container{{Name: "web", LastStatus: "RUNNING", NetworkBindings: []*pb.NetworkBinding{
			{BindIp: "0.0.0.0", ContainerPort: &container, HostPort: &port, Protocol: pb.TransportProtocol_TRANSPORT_PROTOCOL_TCP},
		}}},
	}
}
