package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/plimsoll-project/plimsoll/e2e/lab"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// plim is the system under test: a lab of one host.
type plim struct {
	*lab.Lab
	ecs pb.EcsServiceClient
	bin string
}

func newPlim(ctx context.Context, dir, bin string, archives ...string) (*plim, error) {
	l, err := lab.Start(ctx, lab.Config{DataDir: filepath.Join(dir, "lab"), Nodes: 1, BinDir: bin,
		AccountID: "123456789012", Region: "us-east-1", LogLevel: "warn",
		AgentArgs: []string{"--cpu", "262144", "--memory", "262144"}})
	if err != nil {
		return nil, err
	}
	p := &plim{Lab: l, bin: bin}
	cfg := l.Client()
	conn, err := cfg.Dial()
	if err != nil {
		return p, err
	}
	p.ecs = pb.NewEcsServiceClient(conn)
	for i, archive := range archives {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "plim"), "image", "push", archive, fmt.Sprintf("sample:%d", i+1))
		cmd.Env = append(os.Environ(), "PLIMSOLL_ADDRESS="+cfg.Address, "PLIMSOLL_CA="+cfg.CA, "PLIMSOLL_CERT="+cfg.Cert, "PLIMSOLL_KEY="+cfg.Key)
		if out, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("plim image push: %w: %s", err, out)
		}
		if err := p.register(ctx, i+1); err != nil {
			return p, err
		}
	}
	return p, nil
}

// register registers revision n of the family bench.
func (p *plim) register(ctx context.Context, n int) error {
	memory, port := int32(16), int32(8080)
	_, err := p.ecs.RegisterTaskDefinition(ctx, &pb.RegisterTaskDefinitionRequest{Family: "bench",
		ContainerDefinitions: []*pb.ContainerDefinition{{Name: "web", Cpu: 8, Memory: &memory,
			Image:        fmt.Sprintf("registry.plimsoll.internal/sample:%d", n),
			PortMappings: []*pb.PortMapping{{ContainerPort: &port}}}}})
	return err
}

// launch runs one task: from the call to RUNNING, and from StopTask to STOPPED,
// which is reported once nothing of the task is left.
func (p *plim) launch(ctx context.Context) (cycle, error) {
	begin := time.Now()
	r, err := p.ecs.RunTask(ctx, &pb.RunTaskRequest{TaskDefinition: "bench:1"})
	if err != nil || len(r.GetTasks()) != 1 {
		return cycle{}, fmt.Errorf("run task: %v %w", r.GetFailures(), err)
	}
	arn := r.GetTasks()[0].GetTaskArn()
	if err := p.until(ctx, arn, "RUNNING"); err != nil {
		return cycle{}, err
	}
	launched := time.Now()
	if _, err := p.ecs.StopTask(ctx, &pb.StopTaskRequest{Task: arn}); err != nil {
		return cycle{}, err
	}
	if err := p.until(ctx, arn, "STOPPED"); err != nil {
		return cycle{}, err
	}
	return cycle{launch: launched.Sub(begin), remove: time.Since(launched)}, nil
}

// until asks every 2 ms.
func (p *plim) until(ctx context.Context, arn, status string) error {
	return wait(ctx, 2*time.Millisecond, func() (bool, error) {
		d, err := p.ecs.DescribeTasks(ctx, &pb.DescribeTasksRequest{Tasks: []string{arn}})
		if err != nil {
			return false, err
		}
		t := d.GetTasks()[0]
		if t.GetLastStatus() == "STOPPED" && status != "STOPPED" {
			return false, fmt.Errorf("task stopped: %s", t.GetStoppedReason())
		}
		return t.GetLastStatus() == status, nil
	})
}

func wait(ctx context.Context, every time.Duration, f func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := f(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// create makes a service and waits until it runs; the time from the call.
func (p *plim) create(ctx context.Context, name string, count, minimum, maximum int32) (time.Duration, error) {
	begin := time.Now()
	_, err := p.ecs.CreateService(ctx, &pb.CreateServiceRequest{ServiceName: name, TaskDefinition: "bench:1", DesiredCount: &count,
		DeploymentConfiguration: &pb.DeploymentConfiguration{MinimumHealthyPercent: &minimum, MaximumPercent: &maximum}})
	if err != nil {
		return 0, err
	}
	err = p.running(ctx, name, count)
	return time.Since(begin), err
}

func (p *plim) running(ctx context.Context, name string, count int32) error {
	return wait(ctx, 5*time.Millisecond, func() (bool, error) {
		s, err := p.describe(ctx, name)
		return s.GetRunningCount() == count, err
	})
}

func (p *plim) describe(ctx context.Context, name string) (*pb.Service, error) {
	d, err := p.ecs.DescribeServices(ctx, &pb.DescribeServicesRequest{Services: []string{name}})
	if err != nil || len(d.GetServices()) != 1 {
		return nil, fmt.Errorf("describe %s: %v %w", name, d, err)
	}
	return d.GetServices()[0], nil
}

// roll updates the service to the revision; the time until nothing else is left.
func (p *plim) roll(ctx context.Context, name, definition string, count int32) (time.Duration, error) {
	begin := time.Now()
	if _, err := p.ecs.UpdateService(ctx, &pb.UpdateServiceRequest{Service: name, TaskDefinition: definition}); err != nil {
		return 0, err
	}
	err := wait(ctx, 5*time.Millisecond, func() (bool, error) {
		s, err := p.describe(ctx, name)
		return err == nil && len(s.GetDeployments()) == 1 && s.GetRunningCount() == count && strings.HasSuffix(s.GetDeployments()[0].GetTaskDefinition(), definition), err
	})
	return time.Since(begin), err
}

// replace kills one of the service's containers; the time until count run again,
// none of them the killed one.
func (p *plim) replace(ctx context.Context, name string, count int32) (time.Duration, error) {
	l, err := p.ecs.ListTasks(ctx, &pb.ListTasksRequest{ServiceName: name})
	if err != nil || len(l.GetTaskArns()) == 0 {
		return 0, fmt.Errorf("list tasks: %w", err)
	}
	victim := l.GetTaskArns()[0]
	pid, err := p.pid(victim)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := kill(pid); err != nil {
		return 0, err
	}
	err = wait(ctx, 2*time.Millisecond, func() (bool, error) {
		l, err := p.ecs.ListTasks(ctx, &pb.ListTasksRequest{ServiceName: name})
		if err != nil {
			return false, err
		}
		d, err := p.ecs.DescribeTasks(ctx, &pb.DescribeTasksRequest{Tasks: l.GetTaskArns()})
		if err != nil {
			return false, err
		}
		n := int32(0)
		for _, t := range d.GetTasks() {
			if t.GetTaskArn() != victim && t.GetLastStatus() == "RUNNING" {
				n++
			}
		}
		return n >= count, nil
	})
	return time.Since(begin), err
}

// pid finds the task's process by its environment.
func (p *plim) pid(arn string) (int, error) {
	pids, err := p.Processes(1)
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if strings.Contains(string(env), "PLIMSOLL_TASK_ARN="+arn) && !strings.Contains(exe, "runc") && !strings.Contains(exe, "shim") {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process of task %s", arn)
}

// remove deletes the service and waits until its tasks are gone.
func (p *plim) remove(ctx context.Context, name string) error {
	force := true
	if _, err := p.ecs.DeleteService(ctx, &pb.DeleteServiceRequest{Service: name, Force: &force}); err != nil {
		return err
	}
	return wait(ctx, 20*time.Millisecond, func() (bool, error) {
		s, err := p.describe(ctx, name)
		return s.GetStatus() == "INACTIVE", err
	})
}

// rss is a process's resident memory in MiB.
func rss(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(v)[0])
			return float64(kb) / 1024
		}
	}
	return 0
}
