package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/plimsoll-project/plimsoll/cmd/plim/client"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// Client says how to call the lab's control plane as its administrator.
func (s *State) Client() client.Config {
	admin := filepath.Join(s.DataDir, "plimd", "admin")
	return client.Config{
		Address: fmt.Sprintf("127.0.0.1:%d", s.APIPort),
		CA:      filepath.Join(admin, "ca.crt"),
		Cert:    filepath.Join(admin, "admin.crt"),
		Key:     filepath.Join(admin, "admin.key"),
	}
}

func (l *Lab) tokenFile() string { return filepath.Join(l.state.DataDir, "join-token") }

// startPlimd starts plimd and waits until it serves.
func (l *Lab) startPlimd(ctx context.Context) error {
	s := l.state
	advertise := "127.0.0.1"
	args := []string{"--data-dir", filepath.Join(s.DataDir, "plimd")}
	addresses := []string{"127.0.0.1"}
	if s.Subnet != "" {
		subnet, err := netip.ParsePrefix(s.Subnet)
		if err != nil {
			return fmt.Errorf("subnet of the lab: %w", err)
		}
		advertise = nth(subnet, 1).String()
		addresses = append(addresses, advertise)
	}
	for _, a := range addresses {
		args = append(args, "--listen", a+":"+strconv.Itoa(s.APIPort), "--registry-listen", a+":"+strconv.Itoa(s.RegistryPort))
	}
	args = append(args, "--metrics-listen", "127.0.0.1:"+strconv.Itoa(s.MetricsPort),
		"--advertise", advertise+":"+strconv.Itoa(s.APIPort), "--registry-advertise", advertise+":"+strconv.Itoa(s.RegistryPort),
		"--account-id", s.AccountID, "--region", s.Region, "--log-level", l.config.LogLevel)
	p, err := l.start(command{
		name: "plimd", path: filepath.Join(l.config.BinDir, "plimd"), args: append(args, l.config.PlimdArgs...), log: l.log("plimd"),
	})
	if err != nil {
		return err
	}
	l.keep(p)
	if err := l.record(func(s *State) { s.Plimd = p.Proc }); err != nil {
		return err
	}
	return l.until(ctx, p, 30*time.Millisecond, func(ctx context.Context) error {
		conn, err := s.Client().Dial()
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			return fmt.Errorf("plimd is %s", answer.GetStatus())
		}
		return nil
	})
}

// writeToken makes the token with which the hosts join.
func (l *Lab) writeToken(ctx context.Context) error {
	conn, err := l.state.Client().Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := pb.NewAdminServiceClient(conn).CreateJoinToken(ctx, &pb.CreateJoinTokenRequest{
		Role: "agent", TtlSeconds: 86400, Uses: int32(len(l.state.Hosts)),
	})
	if err != nil {
		return fmt.Errorf("make a join token: %w", err)
	}
	if err := os.WriteFile(l.tokenFile(), []byte(answer.GetToken()), 0o600); err != nil {
		return fmt.Errorf("write the join token: %w", err)
	}
	return nil
}

// waitJoined waits until that many hosts are connected.
func (l *Lab) waitJoined(ctx context.Context, hosts int) error {
	conn, err := l.state.Client().Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ecs := pb.NewEcsServiceClient(conn)
	return l.until(ctx, nil, 50*time.Millisecond, func(ctx context.Context) error {
		list, err := ecs.ListContainerInstances(ctx, &pb.ListContainerInstancesRequest{})
		if err != nil {
			return err
		}
		if len(list.GetContainerInstanceArns()) == 0 {
			return fmt.Errorf("no host of %d has joined", hosts)
		}
		described, err := ecs.DescribeContainerInstances(ctx, &pb.DescribeContainerInstancesRequest{ContainerInstances: list.GetContainerInstanceArns()})
		if err != nil {
			return err
		}
		connected := 0
		for _, i := range described.GetContainerInstances() {
			if i.GetAgentConnected() {
				connected++
			}
		}
		if connected < hosts {
			return fmt.Errorf("%d of %d hosts have joined", connected, hosts)
		}
		return nil
	})
}

// until tries again every interval until try succeeds, ctx ends, or the process
// (if one is given) ends; the error then says what try found last.
func (l *Lab) until(ctx context.Context, p *process, every time.Duration, try func(context.Context) error) error {
	var ended <-chan struct{}
	what := "the hosts"
	if p != nil {
		ended, what = p.done, p.name
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ended:
			return fmt.Errorf("start %s: %w", what, p.failure())
		case failed := <-l.failed:
			return fmt.Errorf("start %s: %s: %w", what, failed.name, failed.failure())
		case <-ctx.Done():
			err = errors.Join(fmt.Errorf("wait for %s: %w", what, ctx.Err()), err)
			if p != nil {
				err = fmt.Errorf("%w; the end of %s:\n%s", err, p.log, Tail(p.log, 5))
			}
			return err
		}
	}
}
