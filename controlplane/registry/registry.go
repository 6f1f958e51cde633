package registry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	// The one storage driver in use registers itself.
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"

	"github.com/plimsoll-project/plimsoll/controlplane/iam"
)

// Passwords checks basic authentication.
type Passwords interface {
	// CheckRegistryPassword says whether the password is in force (ok), and
	// whether it is for pushing too.
	CheckRegistryPassword(user, password string) (push, ok bool)
}

// Config is what a registry needs.
type Config struct {
	// Dir holds the images.
	Dir       string
	Passwords Passwords
	Logger    *slog.Logger
}

// New makes the registry's handler: the OCI distribution API. Agents pull with
// their node certificates; users and servers with their certificates, and
// whoever has a password, pull, and push if it is for that. Others are refused
// with 401.
func New(ctx context.Context, cfg Config) (http.Handler, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	quiet(cfg.Logger)
	c := &configuration.Configuration{Version: "0.1"}
	c.Storage = configuration.Storage{
		"filesystem": {"rootdirectory": cfg.Dir},
		"delete":     {"enabled": true},
		"maintenance": {"uploadpurging": map[any]any{
			"enabled": true, "age": "168h", "interval": "24h", "dryrun": false}},
	}
	c.Catalog.MaxEntries = 1000
	secret, err := uploadSecret(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("registry's upload secret: %w", err)
	}
	c.HTTP.Secret = secret
	// Answers carry relative locations: clients come by several names.
	c.HTTP.RelativeURLs = true
	app, err := newApp(ctx, c)
	if err != nil {
		return nil, err
	}
	return &guarded{next: app, passwords: cfg.Passwords, logger: cfg.Logger}, nil
}

// newApp is the library's constructor, which panics where it fails.
func newApp(ctx context.Context, c *configuration.Configuration) (app *handlers.App, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("start the image registry: %v", r)
		}
	}()
	return handlers.NewApp(ctx, c), nil
}

// guarded asks who calls before the registry sees the request.
type guarded struct {
	next      http.Handler
	passwords Passwords
	logger    *slog.Logger
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	push, ok := g.caller(r)
	writes := r.Method != http.MethodGet && r.Method != http.MethodHead
	switch {
	case !ok:
		w.Header().Set("WWW-Authenticate", `Basic realm="Plimsoll"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "a client certificate or a password from `plim image get-login-password` is needed")
	case writes && !push:
		refuse(w, http.StatusForbidden, "DENIED", "this identity may pull, not push")
	default:
		// The registry's own authorization is off: it need not see the password.
		r.Header.Del("Authorization")
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		g.next.ServeHTTP(answer, r)
		level := slog.LevelDebug
		if answer.status >= http.StatusInternalServerError {
			level = slog.LevelError
		}
		g.logger.Log(r.Context(), level, "registry request", "method", r.Method, "path", r.URL.Path, "status", answer.status)
	}
}

// caller says whether the caller is known, and may push.
func (g *guarded) caller(r *http.Request) (push, ok bool) {
	if user, password, given := r.BasicAuth(); given {
		return g.passwords.CheckRegistryPassword(user, password)
	}
	id, err := iam.OfConnection(r.TLS)
	if err != nil {
		return false, false
	}
	return id.Role == iam.RoleUser || id.Role == iam.RoleServer, true
}

// refuse answers an error in the form of the OCI distribution specification.
func refuse(w http.ResponseWriter, code int, class, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`+"\n", class, message)
}
