package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// serverName is in every server certificate, whatever the address is.
const serverName = "plimsoll"

// Identity is the host's: its key, which never leaves it, and its certificate.
// It is safe for concurrent use.
type Identity struct {
	dir string
	// Cluster and Instance are given by the control plane when the host joins.
	Cluster, Instance string
	key               *ecdsa.PrivateKey

	mu    sync.Mutex
	cert  *tls.Certificate
	roots *x509.CertPool
}

// node is the identity's file beside key and certificate.
type node struct {
	Cluster  string `json:"cluster"`
	Instance string `json:"instance"`
}

// ErrNotJoined says that the directory holds no identity.
var ErrNotJoined = errors.New("this host has not joined a cluster: give the agent a join token")

// Load reads the identity in dir; ErrNotJoined if there is none.
func Load(dir string) (*Identity, error) {
	b, err := os.ReadFile(filepath.Join(dir, "node.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotJoined
	} else if err != nil {
		return nil, err
	}
	var n node
	if err := json.Unmarshal(b, &n); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, "node.json"), err)
	}
	i := &Identity{dir: dir, Cluster: n.Cluster, Instance: n.Instance}
	if i.key, err = readKey(filepath.Join(dir, "node.key")); err != nil {
		return nil, err
	}
	var ders [][]byte
	for _, name := range []string{"node.crt", "ca.crt"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, fmt.Errorf("%s is not PEM", filepath.Join(dir, name))
		}
		for ; block != nil; block, rest = pem.Decode(rest) {
			ders = append(ders, block.Bytes)
		}
	}
	return i, i.use(ders[0], ders[1:])
}

// Expired says whether the node certificate is over: the host was cut off for so
// long that it must join again.
func (i *Identity) Expired(now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return now.After(i.cert.Leaf.NotAfter)
}

// Join joins with a token at one of the servers, and stores the identity.
func Join(ctx context.Context, dir, token, cluster string, servers []string) (*Identity, error) {
	pin, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	i := &Identity{dir: dir}
	// A key of an earlier try is used again.
	if i.key, err = readKey(filepath.Join(dir, "node.key")); errors.Is(err, fs.ErrNotExist) {
		if i.key, err = newKey(filepath.Join(dir, "node.key")); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, i.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	var answer *pb.JoinResponse
	var errs []error
	for _, server := range servers {
		answer, err = joinAt(ctx, server, pin, &pb.JoinRequest{Token: token, CertificateRequest: request, Cluster: cluster})
		if err == nil {
			break
		}
		errs = append(errs, fmt.Errorf("join at %s: %w", server, err))
	}
	if answer == nil {
		return nil, errors.Join(errs...)
	}
	i.Cluster, i.Instance = answer.GetCluster(), answer.GetInstance()
	if err := i.use(answer.GetCertificate(), answer.GetAuthorities()); err != nil {
		return nil, err
	}
	return i, i.store(answer.GetCertificate(), answer.GetAuthorities())
}

func joinAt(ctx context.Context, server string, pin [sha256.Size]byte, r *pb.JoinRequest) (*pb.JoinResponse, error) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	c, err := grpc.NewClient(server, grpc.WithTransportCredentials(credentials.NewTLS(pinned(pin, refuse))))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	// A server that is about to start is waited for; a wrong one is not.
	answer, err := pb.NewAgentServiceClient(c).Join(ctx, r, grpc.WaitForReady(true))
	if cause := context.Cause(ctx); errors.Is(cause, errAuthority) {
		return nil, cause
	}
	switch code := status.Code(err); {
	case parent.Err() != nil:
		return nil, parent.Err()
	case code == codes.OK:
		return answer, nil
	case code == codes.Unavailable, code == codes.DeadlineExceeded, code == codes.Canceled:
		return nil, fmt.Errorf("no control plane answers: check --server, and that plimd listens there (%s)", status.Convert(err).Message())
	}
	return nil, errors.New(status.Convert(err).Message())
}

// joinTimeout bounds the try to join at one server.
const joinTimeout = 15 * time.Second

var errAuthority = errors.New("the server is not of the authority that the join token names")

// pinned trusts the one authority whose hash the token carries. The server sends
// it in its chain. refuse is called with errAuthority for another server.
func pinned(pin [sha256.Size]byte, refuse context.CancelCauseFunc) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: serverName,
		// The chain is verified below, against the authority with the pinned hash.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, c := range s.PeerCertificates {
				if sha256.Sum256(c.Raw) == pin && c.IsCA {
					roots := x509.NewCertPool()
					roots.AddCert(c)
					_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: serverName})
					if err != nil {
						refuse(fmt.Errorf("%w: %w", errAuthority, err))
					}
					return err
				}
			}
			refuse(errAuthority)
			return errAuthority
		},
	}
}

// ParseToken reads a join token, PLIM1.<id>.<secret>.<SHA-256 of the authority's
// certificate>, and answers the hash.
func ParseToken(token string) (pin [sha256.Size]byte, err error) {
	parts := strings.Split(strings.TrimSpace(token), ".")
	bad := errors.New("the join token is malformed: it is PLIM1.<id>.<secret>.<authority>, as `plim join-token create` prints it")
	if len(parts) != 4 || parts[0] != "PLIM1" || parts[1] == "" || parts[2] == "" {
		return pin, bad
	}
	b, err := hex.DecodeString(parts[3])
	if err != nil || len(b) != len(pin) {
		return pin, bad
	}
	return [sha256.Size]byte(b), nil
}

// use takes a certificate into use.
func (i *Identity) use(der []byte, authorities [][]byte) error {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("the node certificate: %w", err)
	}
	roots := x509.NewCertPool()
	for _, a := range authorities {
		c, err := x509.ParseCertificate(a)
		if err != nil {
			return fmt.Errorf("the authority's certificate: %w", err)
		}
		roots.AddCert(c)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cert = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key, Leaf: leaf}
	i.roots = roots
	return nil
}

func (i *Identity) store(der []byte, authorities [][]byte) error {
	n, err := json.Marshal(node{Cluster: i.Cluster, Instance: i.Instance})
	if err != nil {
		return err
	}
	var ca []byte
	for _, a := range authorities {
		ca = append(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a})...)
	}
	// node.json comes last: with it, the host has joined.
	for _, f := range []struct {
		name string
		data []byte
	}{{"ca.crt", ca}, {"node.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, {"node.json", n}} {
		if err := replace(filepath.Join(i.dir, f.name), f.data); err != nil {
			return fmt.Errorf("store the identity: %w", err)
		}
	}
	return nil
}

// TLS is the configuration with which the host calls servers.
func (i *Identity) TLS() *tls.Config {
	i.mu.Lock()
	defer i.mu.Unlock()
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: serverName, RootCAs: i.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			i.mu.Lock()
			defer i.mu.Unlock()
			return i.cert, nil
		},
	}
}

// renewAt is when two thirds of the certificate's life are over.
func (i *Identity) renewAt() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	life := i.cert.Leaf.NotAfter.Sub(i.cert.Leaf.NotBefore)
	return i.cert.Leaf.NotBefore.Add(life / 3 * 2)
}

// renew asks for the next certificate.
func (i *Identity) renew(ctx context.Context, c pb.AgentServiceClient) error {
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, i.key)
	if err != nil {
		return err
	}
	answer, err := c.RenewCertificate(ctx, &pb.RenewCertificateRequest{CertificateRequest: request})
	if err != nil {
		return err
	}
	if err := i.use(answer.GetCertificate(), answer.GetAuthorities()); err != nil {
		return err
	}
	return i.store(answer.GetCertificate(), answer.GetAuthorities())
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an ECDSA key", file)
	}
	return key, nil
}

func newKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, replace(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// replace puts a private file in place in one step, and on disk.
func replace(file string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
