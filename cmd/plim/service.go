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
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/proto"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func (a *app) serviceCommand() *cobra.Command {
	return group("service", "Services", a.serviceCreate(), a.serviceUpdate(), a.serviceScale(), a.serviceList(),
		a.serviceDescribe(), a.serviceEvents(), a.serviceDelete())
}

// serviceOptions are the flags that create and update share.
type serviceOptions struct {
	file                 string
	definition           string
	count                int32
	minimum, maximum     int32
	breaker, rollback    bool
	strategy, constraint []string
	wait                 bool
	timeout              time.Duration
	// before is the deployment that a forced one follows.
	before string
}

func (o *serviceOptions) flags(c *cobra.Command, operation string) {
	f := c.Flags()
	f.StringVarP(&o.file, "file", "f", "", `JSON as "aws ecs `+operation+` --cli-input-json" takes it; - is standard input; flags come before it`)
	f.StringVar(&o.definition, "task-definition", "", "family, family:revision or ARN; a family's newest active revision")
	f.Int32Var(&o.count, "desired-count", 0, "how many tasks to run")
	f.Int32Var(&o.minimum, "min", 0, "minimumHealthyPercent of deployments")
	f.Int32Var(&o.maximum, "max", 0, "maximumPercent of deployments")
	f.BoolVar(&o.breaker, "circuit-breaker", false, "give a deployment up that keeps failing")
	f.BoolVar(&o.rollback, "rollback", false, "and return to the last one that worked")
	f.StringArrayVar(&o.strategy, "strategy", nil, "placement strategy, for example spread:attribute:ecs.availability-zone; repeatable")
	f.StringArrayVar(&o.constraint, "constraint", nil, "placement constraint, for example memberOf:EXPRESSION; repeatable")
	waitFlags(f, &o.wait, &o.timeout, "wait until the service is steady, and show its progress")
	// The names of the aws command line.
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name {
		case "service-name":
			name = "name"
		case "minimum-healthy-percent":
			name = "min"
		case "maximum-percent":
			name = "max"
		case "placement-strategy":
			name = "strategy"
		case "placement-constraints", "placement-constraint":
			name = "constraint"
		}
		return pflag.NormalizedName(name)
	})
}

func waitFlags(f *pflag.FlagSet, wait *bool, timeout *time.Duration, what string) {
	f.BoolVar(wait, "wait", false, what)
	f.DurationVar(timeout, "timeout", 10*time.Minute, "give up waiting after this time")
}

// deployment puts the flags that were given over what the file says; nil if
// there is neither.
func (o *serviceOptions) deployment(f *pflag.FlagSet, from *pb.DeploymentConfiguration) *pb.DeploymentConfiguration {
	given := func(name string) bool { return f.Changed(name) }
	if from == nil {
		if !given("min") && !given("max") && !given("circuit-breaker") && !given("rollback") {
			return nil
		}
		from = &pb.DeploymentConfiguration{}
	}
	if given("min") {
		from.MinimumHealthyPercent = &o.minimum
	}
	if given("max") {
		from.MaximumPercent = &o.maximum
	}
	if given("circuit-breaker") || given("rollback") {
		// A rollback is what a circuit breaker does.
		from.DeploymentCircuitBreaker = &pb.DeploymentCircuitBreaker{
			Enable: o.breaker || o.rollback && !given("circuit-breaker"), Rollback: o.rollback,
		}
	}
	return from
}

// read reads -f FILE into the request, if there is one.
func (o *serviceOptions) read(m proto.Message) error {
	if o.file == "" {
		return nil
	}
	data, err := readFile(o.file)
	if err != nil {
		return err
	}
	if err := ecsjson.Unmarshal(data, m); err != nil {
		return fmt.Errorf("%s is not right: %w", fileName(o.file), err)
	}
	return nil
}

func (a *app) serviceCreate() *cobra.Command {
	o := &serviceOptions{}
	var name, scheduling string
	c := &cobra.Command{
		Use: "create", Short: "Create a service", Args: exactly(0, "flags only"),
		RunE: func(c *cobra.Command, _ []string) error {
			r := &pb.CreateServiceRequest{}
			if err := o.read(r); err != nil {
				return err
			}
			f := c.Flags()
			r.ServiceName = or(name, r.GetServiceName())
			r.TaskDefinition = or(o.definition, r.GetTaskDefinition())
			switch {
			case r.ServiceName == "":
				return usage(c, "it needs --name or -f FILE")
			case r.TaskDefinition == "":
				return usage(c, "it needs --task-definition or -f FILE")
			}
			if f.Changed("cluster") || r.GetCluster() == "" {
				r.Cluster = a.cluster
			}
			if f.Changed("desired-count") {
				r.DesiredCount = &o.count
			}
			if scheduling != "" {
				s, ok := ecsjson.ParseEnum[pb.SchedulingStrategy](scheduling)
				if !ok {
					return usage(c, "--scheduling-strategy is %q: it must be REPLICA or DAEMON", scheduling)
				}
				r.SchedulingStrategy = s
			}
			if r.DesiredCount == nil && r.SchedulingStrategy != pb.SchedulingStrategy_SCHEDULING_STRATEGY_DAEMON {
				return usage(c, "it needs --desired-count or -f FILE")
			}
			r.ClientToken = or(r.GetClientToken(), token())
			r.DeploymentConfiguration = o.deployment(f, r.GetDeploymentConfiguration())
			if err := o.placement(c, &r.PlacementStrategy, &r.PlacementConstraints); err != nil {
				return err
			}
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			answer, err := ecs.CreateService(c.Context(), r)
			if err != nil {
				return err
			}
			a.cluster = r.GetCluster()
			return a.serviceDone(c.Context(), o, answer, answer.GetService())
		},
	}
	c.Flags().StringVar(&name, "name", "", "the service's name")
	c.Flags().StringVar(&scheduling, "scheduling-strategy", "", "REPLICA, or DAEMON for one task on each host")
	o.flags(c, "create-service")
	must(c.RegisterFlagCompletionFunc("task-definition", a.completeFlag(a.taskdefNames)))
	return c
}

// placement puts the flags that were given in the place of what a file says.
func (o *serviceOptions) placement(c *cobra.Command, strategy *[]*pb.PlacementStrategy, constraints *[]*pb.PlacementConstraint) error {
	if len(o.strategy) > 0 {
		parsed, err := parseStrategies(o.strategy)
		if err != nil {
			return usage(c, "%w", err)
		}
		*strategy = parsed
	}
	if len(o.constraint) > 0 {
		parsed, err := parseConstraints(o.constraint)
		if err != nil {
			return usage(c, "%w", err)
		}
		*constraints = parsed
	}
	return nil
}

// serviceDone shows a changed service, and waits for it if asked.
func (a *app) serviceDone(ctx context.Context, o *serviceOptions, answer proto.Message, s *pb.Service) error {
	if !o.wait {
		return a.show(a.out, answer, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s %s, %d desired\n", s.GetServiceName(), render.ShortARN(s.GetTaskDefinition()), s.GetDesiredCount())
			return err
		})
	}
	return a.waitSteady(ctx, s, o.before, o.timeout)
}

func (a *app) serviceUpdate() *cobra.Command {
	o := &serviceOptions{}
	var force bool
	c := &cobra.Command{
		Use: "update NAME", Short: "Change a service; a new task definition starts a deployment",
		Args: between(0, 1, "a service"), ValidArgsFunction: a.completeArgs(1, a.serviceNames),
		RunE: func(c *cobra.Command, args []string) error {
			r := &pb.UpdateServiceRequest{}
			if err := o.read(r); err != nil {
				return err
			}
			f := c.Flags()
			if len(args) > 0 {
				r.Service = args[0]
			}
			if r.GetService() == "" {
				return usage(c, "it needs a service")
			}
			if f.Changed("cluster") || r.GetCluster() == "" {
				r.Cluster = a.cluster
			}
			r.TaskDefinition = or(o.definition, r.GetTaskDefinition())
			if f.Changed("desired-count") {
				r.DesiredCount = &o.count
			}
			if force {
				r.ForceNewDeployment = true
			}
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			if r.GetDeploymentConfiguration() == nil {
				// Percents and circuit breaker are one member: what no flag
				// names stays as it is.
				if r.DeploymentConfiguration, err = a.currentDeployment(c, ecs, r.GetService()); err != nil {
					return err
				}
			}
			r.DeploymentConfiguration = o.deployment(f, r.GetDeploymentConfiguration())
			if err := o.placement(c, &r.PlacementStrategy, &r.PlacementConstraints); err != nil {
				return err
			}
			a.cluster = r.GetCluster()
			if r.GetForceNewDeployment() {
				now, err := a.services(c.Context(), []string{r.GetService()})
				if err != nil {
					return err
				}
				if len(now.GetServices()) > 0 {
					o.before = primary(now.GetServices()[0]).GetId()
				}
			}
			answer, err := ecs.UpdateService(c.Context(), r)
			if err != nil {
				return err
			}
			return a.serviceDone(c.Context(), o, answer, answer.GetService())
		},
	}
	c.Flags().BoolVar(&force, "force-new-deployment", false, "replace the tasks even if nothing changed")
	o.flags(c, "update-service")
	must(c.RegisterFlagCompletionFunc("task-definition", a.completeFlag(a.taskdefNames)))
	return c
}

// currentDeployment answers the service's deployment configuration if a flag
// changes a part of it, else nil.
func (a *app) currentDeployment(c *cobra.Command, ecs pb.EcsServiceClient, service string) (*pb.DeploymentConfiguration, error) {
	f := c.Flags()
	if !f.Changed("min") && !f.Changed("max") && !f.Changed("circuit-breaker") && !f.Changed("rollback") {
		return nil, nil
	}
	r, err := ecs.DescribeServices(c.Context(), &pb.DescribeServicesRequest{Cluster: a.cluster, Services: []string{service}})
	if err != nil {
		return nil, err
	}
	if len(r.GetServices()) == 0 {
		return nil, missingService(service)
	}
	return r.GetServices()[0].GetDeploymentConfiguration(), nil
}

func missingService(name string) error {
	return hint(fmt.Errorf("there is no service %s", name), `"plim service ls" lists the services`)
}

func (a *app) serviceScale() *cobra.Command {
	o := &serviceOptions{}
	c := &cobra.Command{
		Use: "scale NAME COUNT", Short: "Change how many tasks a service runs", Args: exactly(2, "a service and a count"),
		ValidArgsFunction: a.completeArgs(1, a.serviceNames),
		RunE: func(c *cobra.Command, args []string) error {
			var count int32
			if _, err := fmt.Sscanf(args[1], "%d", &count); err != nil || fmt.Sprint(count) != args[1] || count < 0 {
				return usage(c, "the count is %q: it must be a number, 0 or more", args[1])
			}
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			answer, err := ecs.UpdateService(c.Context(), &pb.UpdateServiceRequest{Cluster: a.cluster, Service: args[0], DesiredCount: &count})
			if err != nil {
				return err
			}
			return a.serviceDone(c.Context(), o, answer, answer.GetService())
		},
	}
	waitFlags(c.Flags(), &o.wait, &o.timeout, "wait until the service is steady, and show its progress")
	return c
}

// services describes services by name, ten at a time as ECS allows.
func (a *app) services(ctx context.Context, names []string) (*pb.DescribeServicesResponse, error) {
	ecs, err := a.ecs()
	if err != nil {
		return nil, err
	}
	all := &pb.DescribeServicesResponse{}
	for some := range slices.Chunk(names, 10) {
		r, err := ecs.DescribeServices(ctx, &pb.DescribeServicesRequest{Cluster: a.cluster, Services: some, Include: []pb.ServiceField{pb.ServiceField_SERVICE_FIELD_TAGS}})
		if err != nil {
			return nil, err
		}
		all.Services = append(all.Services, r.GetServices()...)
		all.Failures = append(all.Failures, r.GetFailures()...)
	}
	return all, nil
}

func (a *app) serviceList() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "ls", Short: "List the services", Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				names, err := a.serviceNames(ctx)
				if err != nil {
					return err
				}
				slices.Sort(names)
				r, err := a.services(ctx, names)
				if err != nil {
					return err
				}
				r.Failures = nil
				return a.show(w, r, func(w io.Writer) error { return a.serviceTable(w, r.GetServices()) })
			})
		},
	}
	watchFlag(c, &watch)
	return c
}

func (a *app) serviceTable(w io.Writer, services []*pb.Service) error {
	p := a.palette()
	var rows [][]string
	for _, s := range services {
		rollout := "-"
		if d := primary(s); d != nil {
			rollout = p.Status(ecsjson.Wire(d.GetRolloutState()))
		}
		rows = append(rows, []string{
			s.GetServiceName(), p.Status(s.GetStatus()), number(s.GetDesiredCount()), number(s.GetRunningCount()), number(s.GetPendingCount()),
			render.ShortARN(s.GetTaskDefinition()), rollout, render.Age(s.GetCreatedAt(), a.now()),
		})
	}
	return render.Rows(w, p, []string{"SERVICE", "STATUS", "DESIRED", "RUNNING", "PENDING", "DEFINITION", "ROLLOUT", "AGE"}, rows)
}

// primary is the newest deployment; nil if there is none.
func primary(s *pb.Service) *pb.Deployment {
	for _, d := range s.GetDeployments() {
		if d.GetStatus() == "PRIMARY" {
			return d
		}
	}
	return nil
}

func (a *app) serviceDelete() *cobra.Command {
	var force, wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "delete NAME", Short: "Delete a service and stop its tasks", Args: exactly(1, "a service"),
		ValidArgsFunction: a.completeArgs(1, a.serviceNames),
		RunE: func(c *cobra.Command, args []string) error {
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			r, err := ecs.DeleteService(c.Context(), &pb.DeleteServiceRequest{Cluster: a.cluster, Service: args[0], Force: &force})
			if err != nil {
				return err
			}
			if wait {
				if err := a.waitGone(c.Context(), args[0], timeout); err != nil {
					return err
				}
			}
			return a.show(a.out, r, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, "deleted", r.GetService().GetServiceName())
				return err
			})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "even if it is not scaled to 0")
	waitFlags(c.Flags(), &wait, &timeout, "wait until its last task has stopped")
	return c
}

func (a *app) serviceDescribe() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "describe NAME...", Short: "Describe services, their deployments, tasks and events", Args: atLeast(1, "a service"),
		ValidArgsFunction: a.completeArgs(1<<20, a.serviceNames),
		RunE: func(c *cobra.Command, args []string) error {
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				r, err := a.services(ctx, args)
				if err != nil {
					return err
				}
				var missing error
				for _, f := range r.GetFailures() {
					missing = errors.Join(missing, missingService(render.ShortARN(f.GetArn())))
				}
				return errors.Join(a.show(w, r, func(w io.Writer) error {
					for n, s := range r.GetServices() {
						if n > 0 {
							fmt.Fprintln(w)
						}
						if err := a.serviceDetails(ctx, w, s); err != nil {
							return err
						}
					}
					return nil
				}), missing)
			})
		},
	}
	watchFlag(c, &watch)
	return c
}

func (a *app) serviceDetails(ctx context.Context, w io.Writer, s *pb.Service) error {
	p := a.palette()
	dc := s.GetDeploymentConfiguration()
	breaker := "off"
	if dc.GetDeploymentCircuitBreaker().GetEnable() {
		breaker = "on"
		if dc.GetDeploymentCircuitBreaker().GetRollback() {
			breaker = "on, rolls back"
		}
	}
	percents := ""
	if dc != nil {
		percents = fmt.Sprintf("%d%% to %d%% of desired, circuit breaker %s", dc.GetMinimumHealthyPercent(), dc.GetMaximumPercent(), breaker)
	}
	if err := render.Fields(w, p, "Service", s.GetServiceName(), "ARN", s.GetServiceArn(), "Status", p.Status(s.GetStatus()),
		"Scheduling", ecsjson.Wire(s.GetSchedulingStrategy()), "Definition", render.ShortARN(s.GetTaskDefinition()),
		"Tasks", fmt.Sprintf("%d desired, %d running, %d pending", s.GetDesiredCount(), s.GetRunningCount(), s.GetPendingCount()),
		"Deployments keep", percents, "Strategy", strategies(s.GetPlacementStrategy()), "Constraints", constraints(s.GetPlacementConstraints()),
		"Created", render.Clock(s.GetCreatedAt())); err != nil {
		return err
	}
	var rows [][]string
	for _, d := range s.GetDeployments() {
		rows = append(rows, []string{
			d.GetId(), p.Status(d.GetStatus()), render.ShortARN(d.GetTaskDefinition()), number(d.GetDesiredCount()), number(d.GetRunningCount()),
			number(d.GetPendingCount()), number(d.GetFailedTasks()), p.Status(ecsjson.Wire(d.GetRolloutState())), d.GetRolloutStateReason(),
		})
	}
	fmt.Fprintln(w)
	if err := render.Rows(w, p, []string{"DEPLOYMENT", "STATUS", "DEFINITION", "DESIRED", "RUNNING", "PENDING", "FAILED", "ROLLOUT", "REASON"}, rows); err != nil {
		return err
	}
	arns, err := a.taskARNs(ctx, &pb.ListTasksRequest{ServiceName: s.GetServiceName()})
	if err != nil && s.GetStatus() == "ACTIVE" {
		return err
	}
	if len(arns) > 0 {
		r, err := a.tasks(ctx, arns)
		if err != nil {
			return err
		}
		sortTasks(r.Tasks)
		fmt.Fprintln(w)
		if err := a.taskTable(ctx, w, r.GetTasks()); err != nil {
			return err
		}
	}
	if len(s.GetEvents()) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return a.eventTable(w, s.GetEvents()[:min(5, len(s.GetEvents()))])
}

func strategies(all []*pb.PlacementStrategy) string {
	var texts []string
	for _, s := range all {
		texts = append(texts, strings.TrimSuffix(ecsjson.Wire(s.GetType())+":"+s.GetField(), ":"))
	}
	return strings.Join(texts, ", ")
}

func constraints(all []*pb.PlacementConstraint) string {
	var texts []string
	for _, s := range all {
		texts = append(texts, strings.TrimSuffix(ecsjson.Wire(s.GetType())+":"+s.GetExpression(), ":"))
	}
	return strings.Join(texts, ", ")
}

// eventTable shows events, which come with the newest first.
func (a *app) eventTable(w io.Writer, events []*pb.ServiceEvent) error {
	var rows [][]string
	for _, e := range events {
		rows = append(rows, []string{render.Clock(e.GetCreatedAt()), e.GetMessage()})
	}
	return render.Rows(w, a.palette(), []string{"TIME", "EVENT"}, rows)
}

func (a *app) serviceEvents() *cobra.Command {
	var watch bool
	var limit int
	c := &cobra.Command{
		Use: "events NAME", Short: "Show a service's events, the newest first", Args: exactly(1, "a service"),
		ValidArgsFunction: a.completeArgs(1, a.serviceNames),
		RunE: func(c *cobra.Command, args []string) error {
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				r, err := a.services(ctx, args)
				if err != nil {
					return err
				}
				if len(r.GetServices()) == 0 {
					return missingService(args[0])
				}
				s := r.GetServices()[0]
				s.Events = s.Events[:min(max(0, limit), len(s.Events))]
				return a.show(w, &pb.Service{ServiceName: s.GetServiceName(), ServiceArn: s.GetServiceArn(), Events: s.GetEvents()},
					func(w io.Writer) error { return a.eventTable(w, s.GetEvents()) })
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 100, "at most this many")
	watchFlag(c, &watch)
	return c
}
