// Command river is River's side of the benchmarks: `river install`,
// `river call <fetch cooldown>`, or `river work <workers> <fetch cooldown>`; a cooldown of 0s stands for River's own.
//
// It follows the protocol of benchmarks/sides/commands.py: the caller reads one JSON object per line and answers each
// with a line; the worker notes when numbered jobs began in the file that BENCHMARK_STARTS names.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	unnumbered = -1
	batch      = 1000
)

// noop does nothing. The lane is data: River has no closer word, so it serialises nothing.
type noop struct {
	Number int    `json:"number"`
	Lane   string `json:"lane"`
}

func (noop) Kind() string { return "noop" }

type noopWorker struct {
	river.WorkerDefaults[noop]
	starts *os.File
}

func (worker *noopWorker) Work(_ context.Context, job *river.Job[noop]) error {
	if job.Args.Number == unnumbered {
		return nil
	}
	_, err := fmt.Fprintf(worker.starts, "%d %f\n", job.Args.Number, now())
	return err
}

type command struct {
	Jobs      int     `json:"jobs"`
	Lanes     int     `json:"lanes"`
	Pickups   int     `json:"pickups"`
	PerSecond float64 `json:"per_second"`
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, arguments []string) error {
	pool, err := pgxpool.New(ctx, os.Getenv("BENCHMARK_DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	switch {
	case len(arguments) == 1 && arguments[0] == "install":
		return install(ctx, pool)
	case len(arguments) == 2 && arguments[0] == "call":
		return call(ctx, pool, arguments[1])
	case len(arguments) == 3 && arguments[0] == "work":
		return work(ctx, pool, arguments[1], arguments[2])
	}
	return fmt.Errorf("usage: river install | call <fetch cooldown> | work <workers> <fetch cooldown>")
}

func install(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

func work(ctx context.Context, pool *pgxpool.Pool, workers, cooldown string) error {
	maxWorkers, err := strconv.Atoi(workers)
	if err != nil {
		return err
	}
	fetchCooldown, err := time.ParseDuration(cooldown)
	if err != nil {
		return err
	}
	starts, err := os.OpenFile(os.Getenv("BENCHMARK_STARTS"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer starts.Close()
	registry := river.NewWorkers()
	river.AddWorker(registry, &noopWorker{starts: starts})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown: fetchCooldown,
		Logger:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxWorkers}},
		Workers:       registry,
	})
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer cancel()
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-ctx.Done()
	return client.Stop(context.WithoutCancel(ctx))
}

// call gives the client the workers' cooldown, because it also bounds how often an insert wakes them.
func call(ctx context.Context, pool *pgxpool.Pool, cooldown string) error {
	fetchCooldown, err := time.ParseDuration(cooldown)
	if err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{FetchCooldown: fetchCooldown})
	if err != nil {
		return err
	}
	answers := json.NewEncoder(os.Stdout)
	if err := answers.Encode(struct{}{}); err != nil {
		return err
	}
	commands := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var asked command
		if err := commands.Decode(&asked); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		answer, err := obey(ctx, client, asked)
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
}

func obey(ctx context.Context, client *river.Client[pgx.Tx], asked command) (any, error) {
	if asked.Jobs == 0 {
		committed, err := enqueuePaced(ctx, client, asked.Pickups, asked.PerSecond)
		return map[string]any{"committed": committed}, err
	}
	started := now()
	err := enqueue(ctx, client, asked.Jobs, asked.Lanes)
	return map[string]any{"started": started, "ended": now()}, err
}

// enqueue uses COPY, River's fastest way in.
func enqueue(ctx context.Context, client *river.Client[pgx.Tx], jobs, lanes int) error {
	for first := 0; first < jobs; first += batch {
		params := make([]river.InsertManyParams, 0, batch)
		for number := first; number < min(first+batch, jobs); number++ {
			args := noop{Number: unnumbered, Lane: fmt.Sprintf("lane-%05d", number%lanes)}
			params = append(params, river.InsertManyParams{Args: args})
		}
		if _, err := client.InsertManyFast(ctx, params); err != nil {
			return err
		}
	}
	return nil
}

func enqueuePaced(ctx context.Context, client *river.Client[pgx.Tx], pickups int, perSecond float64) ([]float64, error) {
	committed := make([]float64, 0, pickups)
	first := time.Now()
	for number := range pickups {
		time.Sleep(time.Until(first.Add(time.Duration(float64(number) / perSecond * float64(time.Second)))))
		if _, err := client.Insert(ctx, noop{Number: number, Lane: "pickup"}, nil); err != nil {
			return nil, err
		}
		committed = append(committed, now())
	}
	return committed, nil
}

// now returns the machine's clock, in seconds since 1970.
func now() float64 {
	return float64(time.Now().UnixMicro()) / 1e6
}
