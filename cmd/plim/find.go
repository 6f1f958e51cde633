package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// pages calls a list operation until there is no next token.
func pages(list func(token string) ([]string, string, error)) ([]string, error) {
	var all []string
	for token := ""; ; {
		some, next, err := list(token)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if next == "" {
			return all, nil
		}
		token = next
	}
}

// unknown makes an error of what a Describe operation did not find.
func unknown(what string, failures []*pb.Failure) error {
	var errs []error
	for _, f := range failures {
		detail := f.GetReason()
		if f.GetDetail() != "" {
			detail += ", " + f.GetDetail()
		}
		errs = append(errs, fmt.Errorf("%s %s (%s)", what, render.ShortARN(f.GetArn()), detail))
	}
	return errors.Join(errs...)
}

func (a *app) clusterNames(ctx context.Context) ([]string, error) {
	ecs, err := a.ecs()
	if err != nil {
		return nil, err
	}
	return pages(func(token string) ([]string, string, error) {
		r, err := ecs.ListClusters(ctx, &pb.ListClustersRequest{NextToken: token})
		return short(r.GetClusterArns()), r.GetNextToken(), err
	})
}

func (a *app) serviceNames(ctx context.Context) ([]string, error) {
	ecs, err := a.ecs()
	if err != nil {
		return nil, err
	}
	return pages(func(token string) ([]string, string, error) {
		r, err := ecs.ListServices(ctx, &pb.ListServicesRequest{Cluster: a.cluster, NextToken: token})
		return short(r.GetServiceArns()), r.GetNextToken(), err
	})
}

func (a *app) taskdefNames(ctx context.Context) ([]string, error) {
	ecs, err := a.ecs()
	if err != nil {
		return nil, err
	}
	return pages(func(token string) ([]string, string, error) {
		r, err := ecs.ListTaskDefinitions(ctx, &pb.ListTaskDefinitionsRequest{NextToken: token})
		return short(r.GetTaskDefinitionArns()), r.GetNextToken(), err
	})
}

func (a *app) taskNames(ctx context.Context) ([]string, error) {
	arns, err := a.taskARNs(ctx, &pb.ListTasksRequest{})
	return short(arns), err
}

func (a *app) instanceNames(ctx context.Context) ([]string, error) {
	arns, err := a.instanceARNs(ctx, "")
	return short(arns), err
}

func short(arns []string) []string {
	names := make([]string, len(arns))
	for i, arn := range arns {
		names[i] = render.ShortARN(arn)
	}
	return names
}

// taskARNs lists tasks, of the cluster that was chosen.
func (a *app) taskARNs(ctx context.Context, r *pb.ListTasksRequest) ([]string, error) {
	ecs, err := a.ecs()
	if err != nil {
		return nil, err
	}
	r.Cluster = a.cluster
	return pages(func(token string) ([]string, string, error) {
		r.NextToken = token
		answer, err := ecs.ListTasks(ctx, r)
		return answer.GetTaskArns(), answer.GetNextToken(), err
	})
}

// tasks describes tasks by ARN or id; the order is kept.
func (a *app) tasks(ctx context.Context, arns []string) (*pb.DescribeTasksResponse, error) {
	ecs, err := a.ecs()
	if err != nil {
		return nil, err
	}
	all := &pb.DescribeTasksResponse{}
	for some := range slices.Chunk(arns, 100) {
		r, err := ecs.DescribeTasks(ctx, &pb.DescribeTasksRequest{Cluster: a.cluster, Tasks: some, Include: []pb.TaskField{pb.TaskField_TASK_FIELD_TAGS}})
		if err != nil {
			return nil, err
		}
		all.Tasks = append(all.Tasks, r.GetTasks()...)
		all.Failures = append(all.Failures, r.GetFailures()...)
	}
	return all, nil
}

func (a *app) instanceARNs(ctx context.Context, filter string) ([]string, error) {
	ecs, err := a.ecs()
	if err != nil {
		return nil, err
	}
	return pages(func(token string) ([]string, string, error) {
		r, err := ecs.ListContainerInstances(ctx, &pb.ListContainerInstancesRequest{Cluster: a.cluster, Filter: filter, NextToken: token})
		return r.GetContainerInstanceArns(), r.GetNextToken(), err
	})
}

func (a *app) instances(ctx context.Context, arns []string) (*pb.DescribeContainerInstancesResponse, error) {
	ecs, err := a.ecs()
	if err != nil {
		return nil, err
	}
	all := &pb.DescribeContainerInstancesResponse{}
	for some := range slices.Chunk(arns, 100) {
		r, err := ecs.DescribeContainerInstances(ctx, &pb.DescribeContainerInstancesRequest{
			Cluster: a.cluster, ContainerInstances: some, Include: []pb.ContainerInstanceField{
				pb.ContainerInstanceField_CONTAINER_INSTANCE_FIELD_TAGS, pb.ContainerInstanceField_CONTAINER_INSTANCE_FIELD_CONTAINER_INSTANCE_HEALTH,
			},
		})
		if err != nil {
			return nil, err
		}
		all.ContainerInstances = append(all.ContainerInstances, r.GetContainerInstances()...)
		all.Failures = append(all.Failures, r.GetFailures()...)
	}
	return all, nil
}

// hosts answers the container instances of tasks, by ARN.
func (a *app) hosts(ctx context.Context, tasks []*pb.Task) (map[string]*pb.ContainerInstance, error) {
	var arns []string
	for _, t := range tasks {
		if arn := t.GetContainerInstanceArn(); arn != "" {
			arns = append(arns, arn)
		}
	}
	slices.Sort(arns)
	described, err := a.instances(ctx, slices.Compact(arns))
	if err != nil {
		return nil, err
	}
	hosts := map[string]*pb.ContainerInstance{}
	for _, i := range described.GetContainerInstances() {
		hosts[i.GetContainerInstanceArn()] = i
	}
	return hosts, nil
}

// byPrefix finds the one name that begins with what was given; ARNs and whole
// ids are taken as they are.
func byPrefix(what, given string, names []string) (string, error) {
	if strings.HasPrefix(given, "arn:") || len(given) == 32 {
		return given, nil
	}
	var matches []string
	for _, n := range names {
		if strings.HasPrefix(render.ShortARN(n), given) {
			matches = append(matches, n)
		}
	}
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		return "", fmt.Errorf("no %s's id begins with %q", what, given)
	}
	slices.Sort(matches)
	return "", fmt.Errorf("%d %ss' ids begin with %q: %s", len(matches), what, given, strings.Join(short(matches[:min(4, len(matches))]), ", "))
}

// findTasks turns ids, their beginnings and ARNs into ARNs or ids.
func (a *app) findTasks(ctx context.Context, given []string) ([]string, error) {
	var names []string
	if slices.ContainsFunc(given, func(s string) bool { return len(s) != 32 && !strings.HasPrefix(s, "arn:") }) {
		for _, status := range []pb.DesiredStatus{pb.DesiredStatus_DESIRED_STATUS_RUNNING, pb.DesiredStatus_DESIRED_STATUS_STOPPED} {
			some, err := a.taskARNs(ctx, &pb.ListTasksRequest{DesiredStatus: status})
			if err != nil {
				return nil, err
			}
			names = append(names, some...)
		}
	}
	found := make([]string, len(given))
	for i, g := range given {
		var err error
		if found[i], err = byPrefix("task", g, names); err != nil {
			return nil, hint(err, `"plim task ls --all" lists the tasks`)
		}
	}
	return found, nil
}

// findInstances turns ids, their beginnings, ARNs and host names into ARNs.
func (a *app) findInstances(ctx context.Context, given []string) ([]string, error) {
	names, err := a.instanceARNs(ctx, "")
	if err != nil {
		return nil, err
	}
	described, err := a.instances(ctx, names)
	if err != nil {
		return nil, err
	}
	found := make([]string, len(given))
	for i, g := range given {
		for _, h := range described.GetContainerInstances() {
			if g == hostName(h) {
				found[i] = h.GetContainerInstanceArn()
			}
		}
		if found[i] == "" {
			if found[i], err = byPrefix("container instance", g, names); err != nil {
				return nil, hint(err, `"plim instance ls" lists them`)
			}
		}
	}
	return found, nil
}

// completeFlag and completeArgs offer names; without a control plane there are
// none.
func (a *app) completeFlag(names func(context.Context) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		all, err := names(c.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeArgs(most int, names func(context.Context) ([]string, error)) cobra.CompletionFunc {
	complete := a.completeFlag(names)
	return func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(c, args, word)
	}
}
