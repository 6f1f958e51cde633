package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	"github.com/plimsoll-project/plimsoll/proto/ecsjson"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// fileName is a file in words.
func fileName(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// readFile reads a file, or standard input for "-".
func readFile(path string) ([]byte, error) {
	if path == "-" {
		data, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, nil
}

func (a *app) taskdefCommand() *cobra.Command {
	var file string
	register := &cobra.Command{
		Use: "register -f FILE", Short: "Register a new revision of a task definition",
		Long: `Register a new revision of a task definition. FILE is the JSON that
"aws ecs register-task-definition --cli-input-json" takes, or what
"aws ecs describe-task-definition" answers; - is standard input.`,
		Args: exactly(0, "no argument but -f FILE"),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usage(c, "it needs -f FILE")
			}
			data, err := readFile(file)
			if err != nil {
				return err
			}
			request, err := ecsjson.UnmarshalTaskDefinition(data)
			if err != nil {
				return fmt.Errorf("%s is not a task definition: %w", fileName(file), err)
			}
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			r, err := ecs.RegisterTaskDefinition(c.Context(), request)
			if err != nil {
				return err
			}
			return a.show(a.out, r, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, render.ShortARN(r.GetTaskDefinition().GetTaskDefinitionArn()))
				return err
			})
		},
	}
	register.Flags().StringVarP(&file, "file", "f", "", "task definition as JSON; - is standard input")
	describe := &cobra.Command{
		Use: "describe NAME[:REVISION]", Short: "Describe a task definition; the newest active revision if none is named",
		Args: exactly(1, "a task definition"), ValidArgsFunction: a.completeArgs(1, a.taskdefNames),
		RunE: func(c *cobra.Command, args []string) error {
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			r, err := ecs.DescribeTaskDefinition(c.Context(), &pb.DescribeTaskDefinitionRequest{
				TaskDefinition: args[0], Include: []pb.TaskDefinitionField{pb.TaskDefinitionField_TASK_DEFINITION_FIELD_TAGS},
			})
			if err != nil {
				return err
			}
			return a.show(a.out, r, func(w io.Writer) error { return a.taskdefTable(w, r.GetTaskDefinition()) })
		},
	}
	deregister := &cobra.Command{
		Use: "deregister NAME:REVISION...", Short: "Mark revisions inactive: nothing new starts from them",
		Args: atLeast(1, "a task definition with its revision"), ValidArgsFunction: a.completeArgs(1<<20, a.taskdefNames),
		RunE: func(c *cobra.Command, args []string) error {
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			for _, name := range args {
				r, err := ecs.DeregisterTaskDefinition(c.Context(), &pb.DeregisterTaskDefinitionRequest{TaskDefinition: name})
				if err != nil {
					return err
				}
				if err := a.show(a.out, r, func(w io.Writer) error {
					_, err := fmt.Fprintln(w, "deregistered", render.ShortARN(r.GetTaskDefinition().GetTaskDefinitionArn()))
					return err
				}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	return group("taskdef", "Task definitions", register, a.taskdefList(), describe, deregister)
}

func (a *app) taskdefList() *cobra.Command {
	var family string
	var watch, inactive bool
	c := &cobra.Command{
		Use: "ls", Short: "List the task definitions", Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			status := pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_ACTIVE
			if inactive {
				status = pb.TaskDefinitionStatus_TASK_DEFINITION_STATUS_INACTIVE
			}
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				ecs, err := a.ecs()
				if err != nil {
					return err
				}
				arns, err := pages(func(token string) ([]string, string, error) {
					r, err := ecs.ListTaskDefinitions(ctx, &pb.ListTaskDefinitionsRequest{FamilyPrefix: family, Status: status, NextToken: token})
					return r.GetTaskDefinitionArns(), r.GetNextToken(), err
				})
				if err != nil {
					return err
				}
				return a.show(w, &pb.ListTaskDefinitionsResponse{TaskDefinitionArns: arns}, func(w io.Writer) error {
					var rows [][]string
					for _, arn := range arns {
						name := render.ShortARN(arn)
						family, revision, _ := strings.Cut(name, ":")
						rows = append(rows, []string{name, family, revision})
					}
					return render.Rows(w, a.palette(), []string{"TASK DEFINITION", "FAMILY", "REVISION"}, rows)
				})
			})
		},
	}
	c.Flags().StringVar(&family, "family", "", "of this family only")
	c.Flags().BoolVar(&inactive, "inactive", false, "the deregistered revisions instead")
	watchFlag(c, &watch)
	return c
}

func (a *app) taskdefTable(w io.Writer, d *pb.TaskDefinition) error {
	p := a.palette()
	if err := render.Fields(w, p, "Task definition", render.ShortARN(d.GetTaskDefinitionArn()), "ARN", d.GetTaskDefinitionArn(),
		"Status", p.Status(ecsjson.Wire(d.GetStatus())), "Network mode", ecsjson.Wire(d.GetNetworkMode()), "CPU", d.GetCpu(), "Memory", d.GetMemory(),
		"Registered", render.Clock(d.GetRegisteredAt())); err != nil {
		return err
	}
	var rows [][]string
	for _, c := range d.GetContainerDefinitions() {
		var ports []string
		for _, m := range c.GetPortMappings() {
			port := strconv.Itoa(int(m.GetContainerPort())) + "/" + or(ecsjson.Wire(m.GetProtocol()), "tcp")
			if m.GetHostPort() != 0 {
				port = strconv.Itoa(int(m.GetHostPort())) + "->" + port
			}
			ports = append(ports, port)
		}
		memory := ""
		if c.Memory != nil {
			memory = number(c.GetMemory())
		} else if c.MemoryReservation != nil {
			memory = number(c.GetMemoryReservation()) + " reserved"
		}
		essential := "yes"
		if c.Essential != nil && !c.GetEssential() {
			essential = "no"
		}
		rows = append(rows, []string{c.GetName(), c.GetImage(), number(c.GetCpu()), memory, essential, strings.Join(ports, ", ")})
	}
	fmt.Fprintln(w)
	return render.Rows(w, p, []string{"CONTAINER", "IMAGE", "CPU", "MEMORY", "ESSENTIAL", "PORTS"}, rows)
}
