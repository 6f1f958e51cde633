package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (b *Bridge) stateFile(task string) string { return filepath.Join(b.cfg.StateDir, task+".json") }

// save writes the task's file in one step. It need not survive a power loss:
// the namespaces do not either.
func (b *Bridge) save(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := filepath.Join(b.cfg.StateDir, "."+r.Task+".new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("note the network of %s: %w", r.Task, err)
	}
	if err := os.Rename(tmp, b.stateFile(r.Task)); err != nil {
		return fmt.Errorf("note the network of %s: %w", r.Task, err)
	}
	return nil
}

// recover takes over what an earlier process made: what is whole is kept, what
// is half made, or was before a reboot, is removed. It makes the nftables table.
func (b *Bridge) recover() error {
	files, err := filepath.Glob(filepath.Join(b.cfg.StateDir, "*.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		r := &record{}
		if err := json.Unmarshal(data, r); err != nil || r.Task == "" {
			r = &record{Task: strings.TrimSuffix(filepath.Base(f), ".json")}
		}
		b.tasks[r.Task] = r
		if r.Attachment.Address.IsValid() {
			b.pool.used[r.Attachment.Address.Addr()] = true
			b.pool.last = r.Attachment.Address.Addr()
		}
		for _, m := range r.Attachment.Ports {
			b.pool.taken[portKey(m)] = r.Task
		}
	}
	b.pool.last = b.highest()
	var whole []Attachment
	var half []string
	for _, r := range b.records() {
		if r.Ready && isNamespace(r.Attachment.NetNS) && (!r.Attachment.Address.IsValid() || b.hasLink(vethName(r.Task))) {
			whole = append(whole, r.Attachment)
		} else {
			half = append(half, r.Task)
		}
	}
	if b.nft, err = newRules(b.cfg.TableName, b.cfg.Name, b.cfg.Subnet, b.cfg.Publish, whole); err != nil {
		return err
	}
	for _, task := range half {
		if err := b.Delete(context.Background(), task); err != nil {
			return err
		}
	}
	return nil
}

// highest is the highest address in use, to go on from.
func (b *Bridge) highest() (a netip.Addr) {
	a = b.gateway
	for used := range b.pool.used {
		if a.Less(used) {
			a = used
		}
	}
	return a
}

func (b *Bridge) records() []*record {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*record
	for _, r := range b.tasks {
		all = append(all, r)
	}
	slices.SortFunc(all, func(x, y *record) int { return strings.Compare(x.Task, y.Task) })
	return all
}

func (b *Bridge) hasLink(name string) bool {
	_, err := b.nl.LinkByName(name)
	return err == nil
}

// isNamespace says whether a namespace is mounted at the path.
func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// GC deletes the networks of tasks that are not in keep; see Network.
func (b *Bridge) GC(ctx context.Context, keep []string) ([]string, error) {
	known := map[string]bool{}
	for _, r := range b.records() {
		known[r.Task] = true
	}
	// Namespaces without a file are an earlier process's, killed in between.
	entries, err := os.ReadDir(b.cfg.NetNSDir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		known[e.Name()] = true
	}
	var removed []string
	var errs []error
	for task := range known {
		if slices.Contains(keep, task) {
			continue
		}
		if err := b.Delete(ctx, task); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, task)
	}
	slices.Sort(removed)
	return removed, errors.Join(errs...)
}
