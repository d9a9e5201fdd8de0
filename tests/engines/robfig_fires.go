// Fire times of Kubernetes' cron engine, github.com/robfig/cron/v3, as its CronJob controller asks it.
//
// Reads a JSON list of cases - {"id", "expression", "timezone", "start", "end", "limit"} - and prints,
// case by case, a line {"id", "seconds": [epoch, ...]} or {"id", "error"}. The first argument is the
// time limit of a case, such as "2s": some zones make the library loop for ever, which nothing can
// stop but the end of the process. The case is answered with an error, and the process ends with
// status 3; whoever reads has to start another for the cases that are left.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

type question struct {
	ID         string `json:"id"`
	Expression string `json:"expression"`
	Timezone   string `json:"timezone"`
	Start      int64  `json:"start"`
	End        int64  `json:"end"`
	Limit      int    `json:"limit"`
}

type answer struct {
	ID      string  `json:"id"`
	Seconds []int64 `json:"seconds,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// parse does as formatSchedule of pkg/controller/cronjob does, but for zones that are none: the
// controller takes them for its own, and here they are an error.
func parse(q question) (schedule cron.Schedule, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	if strings.Contains(q.Expression, "TZ") {
		return cron.ParseStandard(q.Expression)
	}
	return cron.ParseStandard(fmt.Sprintf("TZ=%s %s", q.Timezone, q.Expression))
}

func fires(q question) answer {
	schedule, err := parse(q)
	if err != nil {
		return answer{ID: q.ID, Error: err.Error()}
	}
	found := answer{ID: q.ID}
	end := time.Unix(q.End, 0)
	at := schedule.Next(time.Unix(q.Start-1, 0).UTC())
	for ; !at.IsZero() && !at.After(end) && len(found.Seconds) < q.Limit; at = schedule.Next(at) {
		found.Seconds = append(found.Seconds, at.Unix())
	}
	return found
}

func main() {
	limit, err := time.ParseDuration(os.Args[1])
	var questions []question
	if err == nil {
		err = json.NewDecoder(os.Stdin).Decode(&questions)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	answers := json.NewEncoder(os.Stdout)
	for _, q := range questions {
		done := make(chan answer, 1)
		go func(q question) { done <- fires(q) }(q)
		select {
		case found := <-done:
			answers.Encode(found)
		case <-time.After(limit):
			answers.Encode(answer{ID: q.ID, Error: fmt.Sprintf("no answer within %s", limit)})
			os.Exit(3)
		}
	}
}
