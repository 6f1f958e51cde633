package api

import (
	"strings"

	"github.com/plimsoll-project/plimsoll/controlplane/api/apierror"
	"github.com/plimsoll-project/plimsoll/controlplane/model"
)

// The kinds of resources as ARNs name them.
const (
	arnCluster    = "cluster"
	arnDefinition = "task-definition"
	arnService    = "service"
	arnTask       = "task"
	arnInstance   = "container-instance"
)

// arn is the ARN of kind/parts[0]/parts[1]...
func (a *API) arn(kind string, parts ...string) string {
	return "arn:aws:ecs:" + a.cfg.Region + ":" + a.cfg.AccountID + ":" + kind + "/" + strings.Join(parts, "/")
}

// resolve reads a name, an id or an ARN of the kind. cluster is empty where the
// text does not say it (a name, or an ARN of the old form). ok is false for an
// ARN of something else, of another account or of another region.
func (a *API) resolve(kind, s string) (cluster, id string, ok bool) {
	if !strings.HasPrefix(s, "arn:") {
		return "", s, s != "" && !strings.Contains(s, "/")
	}
	rest, ok := strings.CutPrefix(s, a.arn(kind, ""))
	parts := strings.Split(rest, "/")
	switch {
	case !ok || parts[len(parts)-1] == "":
		return "", "", false
	case len(parts) == 1:
		return "", parts[0], true
	case len(parts) == 2 && parts[0] != "" && (kind == arnService || kind == arnTask || kind == arnInstance):
		return parts[0], parts[1], true
	}
	return "", "", false
}

// within is resolve for something in a cluster: ok is also false if the ARN
// names another cluster.
func (a *API) within(cluster, kind, s string) (id string, ok bool) {
	in, id, ok := a.resolve(kind, s)
	return id, ok && (in == "" || in == cluster)
}

// cluster is the name of a cluster that exists, "default" if s is empty.
func (a *API) cluster(snap *model.Snapshot, s string) (string, error) {
	if s == "" {
		s = "default"
	}
	_, name, ok := a.resolve(arnCluster, s)
	if ok {
		_, ok = snap.Clusters().Get(name)
	}
	if !ok {
		return "", apierror.New(apierror.ClusterNotFound, "cluster %q does not exist: create it, or name another", s)
	}
	return name, nil
}
