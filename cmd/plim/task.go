package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func (a *app) taskCommand() *cobra.Command {
	return group("task", "Tasks", a.taskList(), a.taskDescribe(), a.taskStop(), a.taskLogs())
}

func (a *app) taskList() *cobra.Command {
	var all, stopped, watch bool
	var service, family, instance string
	c := &cobra.Command{
		Use: "ls", Short: "List the tasks and where they answer", Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			if instance != "" {
				found, err := a.findInstances(c.Context(), []string{instance})
				if err != nil {
					return err
				}
				instance = found[0]
			}
			statuses := []pb.DesiredStatus{pb.DesiredStatus_DESIRED_STATUS_RUNNING}
			if stopped {
				statuses = []pb.DesiredStatus{pb.DesiredStatus_DESIRED_STATUS_STOPPED}
			} else if all {
				statuses = append(statuses, pb.DesiredStatus_DESIRED_STATUS_STOPPED)
			}
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				var arns []string
				for _, s := range statuses {
					some, err := a.taskARNs(ctx, &pb.ListTasksRequest{ServiceName: service, Family: family, ContainerInstance: instance, DesiredStatus: s})
					if err != nil {
						return err
					}
					arns = append(arns, some...)
				}
				r, err := a.tasks(ctx, arns)
				if err != nil {
					return err
				}
				sortTasks(r.Tasks)
				// A task that ended between the two calls is not missed.
				r.Failures = nil
				return a.show(w, r, func(w io.Writer) error { return a.taskTable(ctx, w, r.GetTasks()) })
			})
		},
	}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "stopped ones too")
	f.BoolVar(&stopped, "stopped", false, "stopped ones only")
	f.StringVar(&service, "service", "", "of this service only")
	f.StringVar(&family, "family", "", "of this task definition family only")
	f.StringVar(&instance, "instance", "", "on this container instance only: id, its beginning, or host name")
	must(c.RegisterFlagCompletionFunc("service", a.completeFlag(a.serviceNames)))
	must(c.RegisterFlagCompletionFunc("instance", a.completeFlag(a.instanceNames)))
	watchFlag(c, &watch)
	return c
}

// sortTasks puts groups together, and the oldest first in each.
func sortTasks(tasks []*pb.Task) {
	slices.SortFunc(tasks, func(x, y *pb.Task) int {
		if c := strings.Compare(x.GetGroup(), y.GetGroup()); c != 0 {
			return c
		}
		if c := x.GetCreatedAt().AsTime().Compare(y.GetCreatedAt().AsTime()); c != 0 {
			return c
		}
		return strings.Compare(x.GetTaskArn(), y.GetTaskArn())
	})
}

func (a *app) taskTable(ctx context.Context, w io.Writer, tasks []*pb.Task) error {
	hosts, err := a.hosts(ctx, tasks)
	if err != nil {
		return err
	}
	p := a.palette()
	var rows [][]string
	for _, t := range tasks {
		host := hosts[t.GetContainerInstanceArn()]
		since := t.GetStartedAt()
		if since == nil {
			since = t.GetCreatedAt()
		}
		if t.GetStoppedAt() != nil {
			since = t.GetStoppedAt()
		}
		rows = append(rows, []string{
			render.ShortARN(t.GetTaskArn()), strings.TrimPrefix(t.GetGroup(), "service:"), render.ShortARN(t.GetTaskDefinitionArn()),
			p.Status(t.GetLastStatus()), desired(t), or(hostName(host), "-"), or(strings.Join(endpoints(t, host), " "), "-"),
			render.Age(since, a.now()), reason(t),
		})
	}
	return render.Rows(w, p, []string{"TASK", "SERVICE", "DEFINITION", "STATUS", "DESIRED", "HOST", "ADDRESS", "FOR", "REASON"}, rows)
}

// reason is why a task stopped, or what its start waits for.
func reason(t *pb.Task) string {
	if why := t.GetStoppedReason(); why != "" {
		for _, c := range t.GetContainers() {
			if c.GetExitCode() != 0 {
				why += fmt.Sprintf(" (%s exited with %d)", c.GetName(), c.GetExitCode())
			}
		}
		return why
	}
	if t.GetStartedAt() != nil {
		return ""
	}
	for _, c := range t.GetContainers() {
		if c.GetReason() != "" {
			return c.GetReason()
		}
	}
	return ""
}

// desired is empty while it is as observed, so that what differs stands out.
func desired(t *pb.Task) string {
	if t.GetDesiredStatus() == t.GetLastStatus() {
		return ""
	}
	return t.GetDesiredStatus()
}

// endpoints are where a task's published ports answer: host:port->port/protocol.
func endpoints(t *pb.Task, host *pb.ContainerInstance) []string {
	if t.GetLastStatus() == "STOPPED" {
		return nil
	}
	var all []string
	for _, c := range t.GetContainers() {
		for _, b := range c.GetNetworkBindings() {
			e := fmt.Sprintf("%s:%d->%d", or(hostAddress(host), "?"), b.GetHostPort(), b.GetContainerPort())
			if b.GetProtocol() == pb.TransportProtocol_TRANSPORT_PROTOCOL_UDP {
				e += "/udp"
			}
			all = append(all, e)
		}
	}
	return all
}

func attribute(i *pb.ContainerInstance, name string) string {
	for _, at := range i.GetAttributes() {
		if at.GetName() == name {
			return at.GetValue()
		}
	}
	return ""
}

// hostAddress is where the host's published ports answer.
func hostAddress(i *pb.ContainerInstance) string { return attribute(i, "plimsoll.host-address") }

// hostName is how people call a host.
func hostName(i *pb.ContainerInstance) string {
	if i == nil {
		return ""
	}
	return or(or(attribute(i, "plimsoll.hostname"), i.GetEc2InstanceId()), render.ShortARN(i.GetContainerInstanceArn())[:min(12, len(render.ShortARN(i.GetContainerInstanceArn())))])
}

func (a *app) taskDescribe() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "describe TASK...", Short: "Describe tasks by id, the beginning of an id, or ARN", Args: atLeast(1, "a task"),
		ValidArgsFunction: a.completeArgs(1<<20, a.taskNames),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := a.findTasks(c.Context(), args)
			if err != nil {
				return err
			}
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				r, err := a.tasks(ctx, names)
				if err != nil {
					return err
				}
				return errors.Join(a.show(w, r, func(w io.Writer) error { return a.taskDetails(ctx, w, r.GetTasks()) }), unknown("task", r.GetFailures()))
			})
		},
	}
	watchFlag(c, &watch)
	return c
}

func (a *app) taskDetails(ctx context.Context, w io.Writer, tasks []*pb.Task) error {
	hosts, err := a.hosts(ctx, tasks)
	if err != nil {
		return err
	}
	p := a.palette()
	for n, t := range tasks {
		if n > 0 {
			fmt.Fprintln(w)
		}
		host := hosts[t.GetContainerInstanceArn()]
		where := hostName(host)
		if address := hostAddress(host); address != "" {
			where += " (" + address + ")"
		}
		if err := render.Fields(w, p, "Task", t.GetTaskArn(), "Definition", render.ShortARN(t.GetTaskDefinitionArn()), "Group", t.GetGroup(),
			"Started by", t.GetStartedBy(), "Status", p.Status(t.GetLastStatus()), "Desired", p.Status(t.GetDesiredStatus()),
			"Health", p.Status(ecsjson.Wire(t.GetHealthStatus())), "Host", where, "Zone", t.GetAvailabilityZone(), "CPU", t.GetCpu(), "Memory", t.GetMemory(),
			"Created", render.Clock(t.GetCreatedAt()), "Started", render.Clock(t.GetStartedAt()), "Stopped", render.Clock(t.GetStoppedAt()),
			"Stop code", ecsjson.Wire(t.GetStopCode()), "Reason", t.GetStoppedReason()); err != nil {
			return err
		}
		var rows [][]string
		for _, c := range t.GetContainers() {
			exit := "-"
			if c.ExitCode != nil {
				exit = number(c.GetExitCode())
			}
			one := &pb.Task{LastStatus: t.GetLastStatus(), Containers: []*pb.Container{c}}
			rows = append(rows, []string{c.GetName(), c.GetImage(), p.Status(c.GetLastStatus()), exit, or(strings.Join(endpoints(one, host), " "), "-"), c.GetReason()})
		}
		fmt.Fprintln(w)
		if err := render.Rows(w, p, []string{"CONTAINER", "IMAGE", "STATUS", "EXIT", "ADDRESS", "REASON"}, rows); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) taskStop() *cobra.Command {
	var reason string
	var wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "stop TASK...", Short: "Stop tasks; a service starts others in their place", Args: atLeast(1, "a task"),
		ValidArgsFunction: a.completeArgs(1<<20, a.taskNames),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := a.findTasks(c.Context(), args)
			if err != nil {
				return err
			}
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			for _, n := range names {
				r, err := ecs.StopTask(c.Context(), &pb.StopTaskRequest{Cluster: a.cluster, Task: n, Reason: reason})
				if err != nil {
					return fmt.Errorf("stop task %s: %w", render.ShortARN(n), err)
				}
				if err := a.show(a.out, r, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, "stopping", render.ShortARN(r.GetTask().GetTaskArn()))
					return err
				}); err != nil {
					return err
				}
			}
			if wait {
				_, err = a.awaitStopped(c.Context(), timeout, names)
			}
			return err
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, shown with the task")
	waitFlags(c.Flags(), &wait, &timeout, "wait until the tasks have stopped, and show how they get on")
	return c
}

func (a *app) taskLogs() *cobra.Command {
	r := &pb.GetTaskLogsRequest{}
	c := &cobra.Command{
		Use: "logs TASK", Short: "Print a task's output", Args: exactly(1, "a task"),
		ValidArgsFunction: a.completeArgs(1, a.taskNames),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := a.findTasks(c.Context(), args)
			if err != nil {
				return err
			}
			admin, err := a.admin()
			if err != nil {
				return err
			}
			r.Cluster, r.Task = a.cluster, names[0]
			return a.copyLogs(c.Context(), admin, r)
		},
	}
	c.Flags().BoolVarP(&r.Follow, "follow", "f", false, "go on as it grows")
	c.Flags().Int32Var(&r.Tail, "tail", 0, "begin with this many lines from the end; 0 is all that is kept, -1 is none")
	c.Flags().StringVar(&r.Container, "container", "", "of this container, if the task has several")
	return c
}

func (a *app) copyLogs(ctx context.Context, admin pb.AdminServiceClient, r *pb.GetTaskLogsRequest) error {
	stream, err := admin.GetTaskLogs(ctx, r)
	if err != nil {
		return err
	}
	for {
		piece, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && r.GetFollow() && ctx.Err() != nil:
			return nil // Ctrl-C is how following ends.
		case err != nil:
			return err
		}
		if _, err := a.out.Write(piece.GetData()); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
	}
}
