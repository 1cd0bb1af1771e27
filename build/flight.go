package build

import (
	"context"
	"strconv"
	"sync"
)

// flights lets one build carry out a step while others that want the same one wait for what it leaves in the cache.
type flights struct {
	mu sync.Mutex
	m  map[string]chan struct{}
}

// enter waits until nobody else is in the flight of that key. leave must be called.
func (f *flights) enter(ctx context.Context, key string) (leave func(), err error) {
	for {
		f.mu.Lock()
		busy := f.m[key]
		if busy == nil {
			mine := make(chan struct{})
			if f.m == nil {
				f.m = map[string]chan struct{}{}
			}
			f.m[key] = mine
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				delete(f.m, key)
				f.mu.Unlock()
				close(mine)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try enters only if nobody is in.
func (f *flights) try(key string) (leave func(), ok bool) {
	f.mu.Lock()
	busy := f.m[key] != nil
	f.mu.Unlock()
	if busy {
		return nil, false
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	leave, err := f.enter(ctx, key)
	return leave, err == nil
}

// own enters under the first of key, key#1, key#2 … that nobody is in.
func (f *flights) own(key string) (mine string, leave func()) {
	mine = key
	for n := 1; ; n++ {
		if leave, ok := f.try(mine); ok {
			return mine, leave
		}
		mine = key + "#" + strconv.Itoa(n)
	}
}
