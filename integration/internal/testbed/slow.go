package testbed

import (
	"os"
	"strconv"
	"time"
)

// Slow is how long something may take that takes d at most on a common machine: BRIG_TEST_SLOW times as long, on one that is emulated or busy.
func Slow(d time.Duration) time.Duration {
	n, err := strconv.ParseFloat(os.Getenv("BRIG_TEST_SLOW"), 64)
	if err != nil || n < 1 {
		return d
	}
	return time.Duration(n * float64(d))
}
