package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/plimsoll-project/plimsoll/cmd/plim/client"
	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// TestMain makes the test's program also a small plimd and plim-agent, by the
// name it is called by: the lab is tested without the real ones.
func TestMain(m *testing.M) {
	var err error
	switch filepath.Base(os.Args[0]) {
	case "plimd":
		err = fakePlimd(os.Args[1:])
	case "plim-agent":
		err = fakeAgent(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		log.Fatal(err)
	}
}

// values collects a flag that may be repeated.
type values []string

func (v *values) String() string     { return strings.Join(*v, ",") }
func (v *values) Set(s string) error { *v = append(*v, s); return nil }

// fakeAgent joins by a file that fakePlimd counts, and waits to be stopped.
func fakeAgent(args []string) error {
	f := flag.NewFlagSet("plim-agent", flag.ContinueOnError)
	dir := f.String("data-dir", "", "")
	token := f.String("join-token-file", "", "")
	crash := f.Bool("crash", false, "")
	for _, name := range []string{"server", "runtime-dir", "containerd-address", "availability-zone", "log-level", "hostname", "bridge-name", "bridge-subnet", "nft-table", "publish"} {
		f.Var(&values{}, name, "")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if *crash {
		return fmt.Errorf("told to crash")
	}
	if data, err := os.ReadFile(*token); err != nil || string(data) != "token" {
		return fmt.Errorf("join token %q: %w", data, err)
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*dir, "joined"), nil, 0o644); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}

// plimd counts the hosts' files.
type plimd struct {
	pb.UnimplementedEcsServiceServer
	pb.UnimplementedAdminServiceServer
	hosts string
}

func (p plimd) CreateJoinToken(context.Context, *pb.CreateJoinTokenRequest) (*pb.CreateJoinTokenResponse, error) {
	return &pb.CreateJoinTokenResponse{Token: "token"}, nil
}

func (p plimd) ListContainerInstances(context.Context, *pb.ListContainerInstancesRequest) (*pb.ListContainerInstancesResponse, error) {
	joined, err := filepath.Glob(filepath.Join(p.hosts, "*", "agent", "joined"))
	return &pb.ListContainerInstancesResponse{ContainerInstanceArns: joined}, err
}

func (p plimd) DescribeContainerInstances(_ context.Context, r *pb.DescribeContainerInstancesRequest) (*pb.DescribeContainerInstancesResponse, error) {
	answer := &pb.DescribeContainerInstancesResponse{}
	for _, i := range r.GetContainerInstances() {
		answer.ContainerInstances = append(answer.ContainerInstances, &pb.ContainerInstance{ContainerInstanceArn: i, AgentConnected: true})
	}
	return answer, nil
}

func fakePlimd(args []string) error {
	f := flag.NewFlagSet("plimd", flag.ContinueOnError)
	var listen values
	f.Var(&listen, "listen", "")
	dir := f.String("data-dir", "", "")
	for _, name := range []string{"registry-listen", "metrics-listen", "advertise", "registry-advertise", "account-id", "region", "log-level"} {
		f.Var(&values{}, name, "")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	certificate, err := writeAdmin(filepath.Join(*dir, "admin"))
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	service := plimd{hosts: filepath.Join(*dir, "..", "hosts")}
	pb.RegisterEcsServiceServer(server, service)
	pb.RegisterAdminServiceServer(server, service)
	healthpb.RegisterHealthServer(server, health.NewServer())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	serving, ctx := errgroup.WithContext(ctx)
	for _, address := range listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		serving.Go(func() error { return server.Serve(l) })
	}
	<-ctx.Done()
	server.Stop()
	return serving.Wait()
}

// writeAdmin writes one certificate that is authority, server and user.
func writeAdmin(dir string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{client.ServerName},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return tls.Certificate{}, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, data := range map[string][]byte{"ca.crt": certPEM, "admin.crt": certPEM, "admin.key": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return tls.Certificate{}, err
		}
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}
