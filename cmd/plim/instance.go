package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func (a *app) instanceCommand() *cobra.Command {
	return group("instance", "Container instances: the hosts", a.instanceList(), a.instanceDescribe(),
		a.instanceState("drain", "Move the tasks of services elsewhere and place nothing more", pb.ContainerInstanceStatus_CONTAINER_INSTANCE_STATUS_DRAINING),
		a.instanceState("activate", "Place tasks on it again", pb.ContainerInstanceStatus_CONTAINER_INSTANCE_STATUS_ACTIVE))
}

func (a *app) instanceList() *cobra.Command {
	var filter string
	var watch bool
	c := &cobra.Command{
		Use: "ls", Short: "List the hosts and what is free on them", Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				arns, err := a.instanceARNs(ctx, filter)
				if err != nil {
					return err
				}
				r, err := a.instances(ctx, arns)
				if err != nil {
					return err
				}
				slices.SortFunc(r.ContainerInstances, func(x, y *pb.ContainerInstance) int {
					return strings.Compare(hostName(x)+x.GetContainerInstanceArn(), hostName(y)+y.GetContainerInstanceArn())
				})
				r.Failures = nil
				return a.show(w, r, func(w io.Writer) error {
					p := a.palette()
					var rows [][]string
					for _, i := range r.GetContainerInstances() {
						rows = append(rows, []string{
							render.ShortARN(i.GetContainerInstanceArn()), hostName(i), or(hostAddress(i), "-"), p.Status(i.GetStatus()), connected(p, i),
							number(i.GetRunningTasksCount()), number(i.GetPendingTasksCount()), free(i, "CPU"), free(i, "MEMORY"),
						})
					}
					return render.Rows(w, p, []string{"INSTANCE", "HOST", "ADDRESS", "STATUS", "AGENT", "RUNNING", "PENDING", "CPU FREE", "MEMORY FREE"}, rows)
				})
			})
		},
	}
	c.Flags().StringVar(&filter, "filter", "", `expression of the cluster query language, for example "runningTasksCount > 1"`)
	watchFlag(c, &watch)
	return c
}

func connected(p render.Palette, i *pb.ContainerInstance) string {
	switch {
	case !i.GetAgentConnected():
		return p.Bad("disconnected")
	case i.GetHealthStatus().GetOverallStatus() == pb.InstanceHealthCheckState_INSTANCE_HEALTH_CHECK_STATE_IMPAIRED:
		return p.Bad("impaired")
	}
	return "connected"
}

// ailments are what is wrong with a host, in its words.
func ailments(i *pb.ContainerInstance) string {
	var all []string
	for _, d := range i.GetHealthStatus().GetDetails() {
		if d.GetStatusReason() != "" {
			all = append(all, oneLine(d.GetStatusReason()))
		}
	}
	return strings.Join(all, "; ")
}

// free answers "remaining/registered" of a resource.
func free(i *pb.ContainerInstance, name string) string {
	value := func(all []*pb.Resource) int32 {
		for _, r := range all {
			if r.GetName() == name {
				return r.GetIntegerValue()
			}
		}
		return 0
	}
	return fmt.Sprintf("%d/%d", value(i.GetRemainingResources()), value(i.GetRegisteredResources()))
}

func (a *app) instanceDescribe() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "describe INSTANCE...", Short: "Describe hosts by id, the beginning of an id, host name, or ARN", Args: atLeast(1, "a container instance"),
		ValidArgsFunction: a.completeArgs(1<<20, a.instanceNames),
		RunE: func(c *cobra.Command, args []string) error {
			arns, err := a.findInstances(c.Context(), args)
			if err != nil {
				return err
			}
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				r, err := a.instances(ctx, arns)
				if err != nil {
					return err
				}
				return errors.Join(a.show(w, r, func(w io.Writer) error { return a.instanceDetails(ctx, w, r.GetContainerInstances()) }),
					unknown("container instance", r.GetFailures()))
			})
		},
	}
	watchFlag(c, &watch)
	return c
}

func (a *app) instanceDetails(ctx context.Context, w io.Writer, all []*pb.ContainerInstance) error {
	p := a.palette()
	for n, i := range all {
		if n > 0 {
			fmt.Fprintln(w)
		}
		if err := render.Fields(w, p, "Instance", i.GetContainerInstanceArn(), "Host", hostName(i), "Address", hostAddress(i), "Status", p.Status(i.GetStatus()),
			"Agent", connected(p, i)+" "+i.GetVersionInfo().GetAgentVersion(), "Runtime", i.GetVersionInfo().GetDockerVersion(), "Health", ailments(i),
			"CPU free", free(i, "CPU"), "Memory free", free(i, "MEMORY")+" MiB", "Registered", render.Clock(i.GetRegisteredAt())); err != nil {
			return err
		}
		var rows [][]string
		for _, at := range i.GetAttributes() {
			rows = append(rows, []string{at.GetName(), at.GetValue()})
		}
		fmt.Fprintln(w)
		if err := render.Rows(w, p, []string{"ATTRIBUTE", "VALUE"}, rows); err != nil {
			return err
		}
		arns, err := a.taskARNs(ctx, &pb.ListTasksRequest{ContainerInstance: i.GetContainerInstanceArn()})
		if err != nil {
			return err
		}
		if len(arns) == 0 {
			continue
		}
		tasks, err := a.tasks(ctx, arns)
		if err != nil {
			return err
		}
		sortTasks(tasks.Tasks)
		fmt.Fprintln(w)
		if err := a.taskTable(ctx, w, tasks.GetTasks()); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) instanceState(name, what string, status pb.ContainerInstanceStatus) *cobra.Command {
	return &cobra.Command{
		Use: name + " INSTANCE...", Short: what, Args: atLeast(1, "a container instance"),
		ValidArgsFunction: a.completeArgs(1<<20, a.instanceNames),
		RunE: func(c *cobra.Command, args []string) error {
			arns, err := a.findInstances(c.Context(), args)
			if err != nil {
				return err
			}
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			r, err := ecs.UpdateContainerInstancesState(c.Context(), &pb.UpdateContainerInstancesStateRequest{
				Cluster: a.cluster, ContainerInstances: arns, Status: status,
			})
			if err != nil {
				return err
			}
			return errors.Join(a.show(a.out, r, func(w io.Writer) error {
				for _, i := range r.GetContainerInstances() {
					if _, err := fmt.Fprintln(w, hostName(i), a.palette().Status(i.GetStatus())); err != nil {
						return err
					}
				}
				return nil
			}), unknown("container instance", r.GetFailures()))
		},
	}
}
