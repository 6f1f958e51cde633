package images

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSharedWork(t *testing.T) {
	quiet := func(string) {}
	t.Run("is done once, also for who comes later while it is fresh", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newShared[int](2 * time.Second)
			began := 0
			work := func(context.Context, func(string)) (int, error) {
				began++
				time.Sleep(time.Second)
				return began, nil
			}
			results := make(chan int, 10)
			ask := func() {
				got, err := s.do(t.Context(), "a", quiet, work)
				if err != nil {
					t.Error(err)
				}
				results <- got
			}
			go ask()
			time.Sleep(500 * time.Millisecond)
			go ask()
			time.Sleep(time.Second)
			ask()
			time.Sleep(2 * time.Second)
			ask()
			if got := [4]int{<-results, <-results, <-results, <-results}; got != [4]int{1, 1, 1, 2} {
				t.Errorf("the callers got %v", got)
			}
			if _, err := s.do(t.Context(), "b", quiet, work); err != nil || began != 3 {
				t.Errorf("another key: work began %d times, %v", began, err)
			}
			time.Sleep(time.Minute)
			_, _ = s.do(t.Context(), "c", quiet, work)
			if len(s.calls) != 1 {
				t.Errorf("%d results are kept", len(s.calls))
			}
		})
	})
	t.Run("that failed is done again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newShared[int](time.Hour)
			broken := errors.New("broken")
			began := 0
			for range 2 {
				if _, err := s.do(t.Context(), "a", quiet, func(context.Context, func(string)) (int, error) {
					began++
					return 0, broken
				}); !errors.Is(err, broken) {
					t.Error(err)
				}
			}
			if began != 2 {
				t.Errorf("work began %d times", began)
			}
		})
	})
	t.Run("ends with the last who waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newShared[int](0)
			var ended atomic.Int32
			work := func(ctx context.Context, _ func(string)) (int, error) {
				<-ctx.Done()
				time.Sleep(time.Second) // it takes a while to end
				ended.Add(1)
				return 0, ctx.Err()
			}
			first, leave := context.WithCancel(t.Context())
			second, leaveToo := context.WithCancel(t.Context())
			go func() { _, _ = s.do(first, "a", quiet, work) }()
			go func() { _, _ = s.do(second, "a", quiet, work) }()
			synctest.Wait()
			leave()
			time.Sleep(time.Minute)
			if ended.Load() != 0 {
				t.Error("it ended while somebody waits")
			}
			leaveToo()
			synctest.Wait()
			// Who asks now does not get what is ending.
			got, err := s.do(t.Context(), "a", quiet, func(context.Context, func(string)) (int, error) { return 7, nil })
			if got != 7 || err != nil {
				t.Errorf("who came after it got %d, %v", got, err)
			}
			time.Sleep(time.Minute)
			if ended.Load() != 1 {
				t.Errorf("it ended %d times", ended.Load())
			}
		})
	})
	t.Run("tells all who wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newShared[int](0)
			heard := make(chan string, 10)
			for range 2 {
				go func() {
					_, _ = s.do(t.Context(), "a", func(text string) { heard <- text }, func(_ context.Context, say func(string)) (int, error) {
						say("half")
						time.Sleep(tellEvery + time.Second)
						return 0, nil
					})
				}()
			}
			time.Sleep(time.Minute)
			if len(heard) != 2 || <-heard != "half" || <-heard != "half" {
				t.Errorf("%d heard it", len(heard))
			}
		})
	})
}
