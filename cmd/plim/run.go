package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

type runOptions struct {
	count                 int32
	container             string
	env                   []string
	strategy, constraint  []string
	group, startedBy, cpu string
	memory                string
	wait                  bool
	timeout               time.Duration
}

func (a *app) runCommand() *cobra.Command {
	o := &runOptions{}
	c := &cobra.Command{
		Use:   "run TASKDEF [-- COMMAND...]",
		Short: "Run tasks; COMMAND replaces the container's command",
		Args:  atLeast(1, "a task definition"), ValidArgsFunction: a.completeArgs(1, a.taskdefNames),
		RunE: func(c *cobra.Command, args []string) error { return a.runTasks(c, o, args[0], args[1:]) },
	}
	f := c.Flags()
	f.Int32Var(&o.count, "count", 1, "number of tasks, at most 10")
	f.StringVar(&o.container, "container", "", "container that COMMAND and --env are for; the first essential one if empty")
	f.StringArrayVarP(&o.env, "env", "e", nil, "NAME=VALUE in the container's environment; repeatable")
	f.StringArrayVar(&o.strategy, "strategy", nil, "placement strategy, for example spread:attribute:ecs.availability-zone; repeatable")
	f.StringArrayVar(&o.constraint, "constraint", nil, "placement constraint, for example memberOf:EXPRESSION; repeatable")
	f.StringVar(&o.group, "group", "", "group of the tasks")
	f.StringVar(&o.startedBy, "started-by", "", "text that is kept with the tasks")
	f.StringVar(&o.cpu, "cpu", "", "CPU of the task, instead of the definition's")
	f.StringVar(&o.memory, "memory", "", "memory of the task, instead of the definition's")
	f.BoolVar(&o.wait, "wait", false, "wait until the tasks have stopped; fail if one did")
	f.DurationVar(&o.timeout, "timeout", 0, "give up waiting after this time; 0 waits for ever")
	return c
}

func (a *app) runTasks(c *cobra.Command, o *runOptions, definition string, command []string) error {
	ctx := c.Context()
	request := &pb.RunTaskRequest{
		Cluster: a.cluster, TaskDefinition: definition, Count: &o.count, Group: o.group, StartedBy: o.startedBy,
		ClientToken: token(),
	}
	var err error
	if request.PlacementStrategy, err = parseStrategies(o.strategy); err != nil {
		return usage(c, "%w", err)
	}
	if request.PlacementConstraints, err = parseConstraints(o.constraint); err != nil {
		return usage(c, "%w", err)
	}
	env, err := parseEnv(o.env)
	if err != nil {
		return usage(c, "%w", err)
	}
	ecs, err := a.ecs()
	if err != nil {
		return err
	}
	if request.Overrides, err = a.overrides(ctx, o, definition, command, env); err != nil {
		return err
	}
	r, err := ecs.RunTask(ctx, request)
	if err != nil {
		return err
	}
	if !o.wait || len(r.GetTasks()) == 0 {
		return errors.Join(a.show(a.out, r, func(w io.Writer) error {
			for _, t := range r.GetTasks() {
				if _, err := fmt.Fprintln(w, render.ShortARN(t.GetTaskArn())); err != nil {
					return err
				}
			}
			return nil
		}), notPlaced(r.GetFailures()))
	}
	if err := notPlaced(r.GetFailures()); err != nil {
		a.say("plim: %s", oneLine(err.Error()))
	}
	return a.waitStopped(ctx, o.timeout, r.GetTasks(), len(r.GetFailures()) > 0)
}

// notPlaced makes an error of what RunTask could not place.
func notPlaced(failures []*pb.Failure) error {
	reasons := map[string]int{}
	var order []string
	for _, f := range failures {
		text := f.GetReason()
		switch {
		case strings.HasPrefix(f.GetDetail(), text):
			text = f.GetDetail()
		case f.GetDetail() != "":
			text += ", " + f.GetDetail()
		}
		if reasons[text] == 0 {
			order = append(order, text)
		}
		reasons[text]++
	}
	var errs []error
	for _, text := range order {
		errs = append(errs, hint(fmt.Errorf("%d task(s) could not be placed (%s)", reasons[text], text), `see what the hosts have with "plim instance ls"`))
	}
	return errors.Join(errs...)
}

func parseEnv(all []string) ([]*pb.KeyValuePair, error) {
	return parseAll(all, func(s string) (*pb.KeyValuePair, error) {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--env is %q: it must be NAME=VALUE", s)
		}
		return &pb.KeyValuePair{Name: name, Value: value}, nil
	})
}

// overrides answers what differs from the definition; nil if nothing does.
func (a *app) overrides(ctx context.Context, o *runOptions, definition string, command []string, env []*pb.KeyValuePair) (*pb.TaskOverride, error) {
	if len(command) == 0 && len(env) == 0 && o.cpu == "" && o.memory == "" {
		return nil, nil
	}
	overrides := &pb.TaskOverride{Cpu: o.cpu, Memory: o.memory}
	if len(command) == 0 && len(env) == 0 {
		return overrides, nil
	}
	name := o.container
	if name == "" {
		ecs, err := a.ecs()
		if err != nil {
			return nil, err
		}
		r, err := ecs.DescribeTaskDefinition(ctx, &pb.DescribeTaskDefinitionRequest{TaskDefinition: definition})
		if err != nil {
			return nil, err
		}
		for _, d := range r.GetTaskDefinition().GetContainerDefinitions() {
			if d.Essential == nil || d.GetEssential() {
				name = d.GetName()
				break
			}
		}
	}
	overrides.ContainerOverrides = []*pb.ContainerOverride{{Name: name, Command: command, Environment: env}}
	return overrides, nil
}

// waitStopped waits until tasks have stopped, and fails if one failed.
func (a *app) waitStopped(ctx context.Context, timeout time.Duration, tasks []*pb.Task, lacking bool) error {
	var arns []string
	for _, t := range tasks {
		arns = append(arns, t.GetTaskArn())
	}
	r, err := a.awaitStopped(ctx, timeout, arns)
	if err != nil {
		return err
	}
	return a.exits(r, lacking)
}

// awaitStopped shows how tasks get on until they have stopped, and answers them.
// 0 waits for ever.
func (a *app) awaitStopped(ctx context.Context, timeout time.Duration, arns []string) (*pb.DescribeTasksResponse, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the tasks have not stopped within %s", timeout))
		defer cancel()
	}
	seen := map[string]string{}
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	for {
		r, err := a.tasks(ctx, arns)
		if err != nil {
			return nil, cause(ctx, err)
		}
		if err := unknown("task", r.GetFailures()); err != nil {
			return nil, err
		}
		stopped := 0
		for _, t := range r.GetTasks() {
			id, now := render.ShortARN(t.GetTaskArn()), a.palette().Status(t.GetLastStatus())
			if why := reason(t); why != "" {
				now += "  " + why
			}
			if seen[id] != now {
				seen[id] = now
				a.say("%s %s", id, now)
			}
			if t.GetLastStatus() == "STOPPED" {
				stopped++
			}
		}
		if stopped == len(arns) {
			return r, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, cause(ctx, ctx.Err())
		}
	}
}

// cause answers why ctx ended if that is why err came, else err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// exits prints the exit codes and fails if one is not 0.
func (a *app) exits(r *pb.DescribeTasksResponse, lacking bool) error {
	bad := 0
	var rows [][]string
	for _, t := range r.GetTasks() {
		good := true
		for _, c := range t.GetContainers() {
			exit := "-"
			if c.ExitCode != nil {
				exit = number(c.GetExitCode())
			}
			good = good && c.ExitCode != nil && c.GetExitCode() == 0
			rows = append(rows, []string{render.ShortARN(t.GetTaskArn()), c.GetName(), exit, or(c.GetReason(), t.GetStoppedReason())})
		}
		if !good || t.GetStopCode() == pb.TaskStopCode_TASK_STOP_CODE_TASK_FAILED_TO_START {
			bad++
		}
	}
	if err := a.show(a.out, r, func(w io.Writer) error {
		return render.Rows(w, a.palette(), []string{"TASK", "CONTAINER", "EXIT", "REASON"}, rows)
	}); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d tasks failed", bad, len(r.GetTasks()))
	}
	if lacking {
		return &exitError{1}
	}
	return nil
}
