package registry

import (
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
)

// The library logs to logrus's one global logger, and each request at info.
// Its warnings and errors, which clients cause too ("manifest unknown"), go to
// slog at debug; what is the server's own failure is logged with the request.
var (
	logger    atomic.Pointer[slog.Logger]
	quietOnce sync.Once
)

func quiet(l *slog.Logger) {
	logger.Store(l)
	quietOnce.Do(func() {
		logrus.SetOutput(io.Discard)
		logrus.SetLevel(logrus.WarnLevel)
		logrus.AddHook(hook{})
	})
}

type hook struct{}

// Levels implements logrus.Hook.
func (hook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (hook) Fire(e *logrus.Entry) error {
	logger.Load().Debug("registry library", "text", e.Message, "level", e.Level.String(), "fields", e.Data)
	return nil
}

// answer notes the status that a handler answers.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
