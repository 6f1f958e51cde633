// Package controller is the one shell around every decider: it wakes, reads the
// snapshot, plans, commits, waits until the snapshot shows what it wrote, and
// sleeps until something changes or the plan asks to be woken.
//
// It is level-triggered: each Step decides on the whole truth, so a wake that is
// lost only delays, until the full resync at the latest. Conflicts are normal
// (somebody else was faster) and lead to another Step; any other failure of a
// commit, ErrFenced above all, ends Run with an error, and the leader's term
// with it.
//
// A Controller owns no state but when to run next. Run works on its caller's
// goroutine and starts a bounded number for the commits of one Step, which it
// waits for. The package imports model and store, and no decider.
package controller
