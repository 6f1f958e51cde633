package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/plimsoll-project/plimsoll/cmd/plim/render"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

func (a *app) clusterCommand() *cobra.Command {
	create := &cobra.Command{
		Use: "create NAME", Short: "Create a cluster", Args: exactly(1, "a name"),
		RunE: func(c *cobra.Command, args []string) error {
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			r, err := ecs.CreateCluster(c.Context(), &pb.CreateClusterRequest{ClusterName: args[0]})
			if err != nil {
				return err
			}
			return a.show(a.out, r, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, r.GetCluster().GetClusterArn())
				return err
			})
		},
	}
	var watch bool
	list := &cobra.Command{
		Use: "ls", Short: "List the clusters", Args: exactly(0, "no argument"),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				names, err := a.clusterNames(ctx)
				if err != nil {
					return err
				}
				slices.Sort(names)
				return a.drawClusters(ctx, w, names)
			})
		},
	}
	watchFlag(list, &watch)
	describe := &cobra.Command{
		Use: "describe [NAME...]", Short: "Describe clusters", Args: atLeast(0, ""),
		ValidArgsFunction: a.completeArgs(1<<20, a.clusterNames),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{a.cluster}
			}
			return a.watched(c.Context(), watch, func(ctx context.Context, w io.Writer) error {
				return a.drawClusters(ctx, w, args)
			})
		},
	}
	watchFlag(describe, &watch)
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Delete an empty cluster", Args: exactly(1, "a name"),
		ValidArgsFunction: a.completeArgs(1, a.clusterNames),
		RunE: func(c *cobra.Command, args []string) error {
			ecs, err := a.ecs()
			if err != nil {
				return err
			}
			r, err := ecs.DeleteCluster(c.Context(), &pb.DeleteClusterRequest{Cluster: args[0]})
			if err != nil {
				return err
			}
			return a.show(a.out, r, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, "deleted", r.GetCluster().GetClusterName())
				return err
			})
		},
	}
	return group("cluster", "Clusters", create, list, describe, remove)
}

func (a *app) drawClusters(ctx context.Context, w io.Writer, names []string) error {
	ecs, err := a.ecs()
	if err != nil {
		return err
	}
	all := &pb.DescribeClustersResponse{}
	for some := range slices.Chunk(names, 100) {
		r, err := ecs.DescribeClusters(ctx, &pb.DescribeClustersRequest{Clusters: some})
		if err != nil {
			return err
		}
		all.Clusters = append(all.Clusters, r.GetClusters()...)
		all.Failures = append(all.Failures, r.GetFailures()...)
	}
	if err := a.show(w, all, func(w io.Writer) error {
		p := a.palette()
		var rows [][]string
		for _, c := range all.GetClusters() {
			rows = append(rows, []string{
				c.GetClusterName(), p.Status(c.GetStatus()), number(c.GetRegisteredContainerInstancesCount()),
				number(c.GetActiveServicesCount()), number(c.GetRunningTasksCount()), number(c.GetPendingTasksCount()),
			})
		}
		return render.Rows(w, p, []string{"CLUSTER", "STATUS", "INSTANCES", "SERVICES", "RUNNING", "PENDING"}, rows)
	}); err != nil {
		return err
	}
	return unknown("cluster", all.GetFailures())
}

func number(n int32) string { return strconv.Itoa(int(n)) }
