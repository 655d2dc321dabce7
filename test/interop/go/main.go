// A shop whose services use DTM's Go SDK, and the clients that order from it:
// what test/interop/go.pl runs against the HTTP API of dtm_pg.
//
//	shop serve [flags]                 the services; prints "port N"
//	shop run [flags] SCENARIO NAME=VALUE...
//	                                   one client; prints "result: {JSON}"
//
// The services and the clients know the SDK and PostgreSQL, nothing of dtm_pg
// but its address and the name of the barrier table.
package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/dtm-labs/dtmdriver"
	"github.com/dtm-labs/logger"
	"github.com/go-resty/resty/v2"
	"github.com/lib/pq"
)

var (
	dtm       string // base address of the API, as an SDK wants it
	jrpc      string // that of its JSON-RPC side
	rm        string // address of the services that take part
	shopDB    *sql.DB
	shopConf  dtmcli.DBConf // for XA, which opens connections of its own
	bankConf  dtmcli.DBConf
	bankDB    *sql.DB
	callLog   *sql.DB
	stopAfter int    // serve: the workflow stops dead after this step
	holdUntil string // serve: calls with hold=1 wait until this file is there
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

func openDB(conf dtmcli.DBConf) *sql.DB {
	db, err := sql.Open(conf.Driver, fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable",
		conf.Host, conf.Port, conf.User, conf.Password, conf.Db))
	check(err)
	db.SetMaxOpenConns(8)
	return db
}

func main() {
	if len(os.Args) < 2 {
		check(errors.New("serve or run"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address of the services")
	port := flags.Int64("dbport", 5432, "port of PostgreSQL on 127.0.0.1")
	user := flags.String("user", "shop", "role in the databases")
	flags.StringVar(&dtm, "dtm", "", "base address of DTM's HTTP API")
	flags.StringVar(&jrpc, "jrpc", "", "address of DTM's JSON-RPC API")
	flags.StringVar(&rm, "rm", "", "address of the services; serve: this process itself")
	token := flags.String("token", "", "token for DTM's HTTP API")
	flags.IntVar(&stopAfter, "stop-after", 0, "stop dead after this step of the workflow")
	flags.StringVar(&holdUntil, "hold-until", "", "file that lets held calls go on")
	check(flags.Parse(os.Args[2:]))

	logger.InitLog("warn")
	dtmcli.SetCurrentDBType(dtmcli.DBTypePostgres)
	dtmcli.SetBarrierTableName("dtm.barrier")
	if *token != "" {
		sendToken(*token)
	}
	// The SDK builds its own connection strings: it knows the driver under this
	// name only, and needs a password and a schema that are not empty.
	shopConf = dtmcli.DBConf{Driver: "postgres", Host: "127.0.0.1", Port: *port,
		User: *user, Password: "unused", Db: "postgres", Schema: "shop"}
	bankConf = shopConf
	bankConf.Db = "bank"
	shopDB, bankDB, callLog = openDB(shopConf), openDB(bankConf), openDB(shopConf)

	switch os.Args[1] {
	case "serve":
		serve(*listen)
	case "run":
		run(flags.Args())
	default:
		check(errors.New("serve or run, not " + os.Args[1]))
	}
}

// The SDK has a place for what is done to each of its requests, and knows
// nothing of tokens.  The services must not see it.
func sendToken(token string) {
	dtmdriver.Middlewares.HTTP = append(dtmdriver.Middlewares.HTTP, func(_ *resty.Client, r *resty.Request) error {
		if strings.HasPrefix(r.URL, dtm+"/") || r.URL == jrpc {
			r.SetAuthToken(token)
		}
		return nil
	})
}

// ------------------------------------------------------------- the clients

type params map[string]string

func (p params) has(name string) bool { return p[name] != "" }

func (p params) number(name string) int64 {
	n, err := strconv.ParseInt(p[name], 10, 64)
	if p[name] != "" {
		check(err)
	}
	return n
}

// What a scenario has to say beside its error.
type result map[string]interface{}

var scenarios = map[string]func(p params, r result) error{}

func run(args []string) {
	if len(args) == 0 || scenarios[args[0]] == nil {
		check(fmt.Errorf("no such scenario: %v", args))
	}
	p, r := params{}, result{}
	for _, arg := range args[1:] {
		i := strings.Index(arg, "=")
		if i < 0 {
			check(errors.New("not NAME=VALUE: " + arg))
		}
		p[arg[:i]] = arg[i+1:]
	}
	began := time.Now()
	err := scenarios[args[0]](p, r)
	r["took_ms"] = time.Since(began).Milliseconds()
	r["failure"] = errors.Is(err, dtmcli.ErrFailure)
	r["ongoing"] = errors.Is(err, dtmcli.ErrOngoing)
	if err != nil {
		r["error"] = err.Error()
	}
	line, err := json.Marshal(r)
	check(err)
	fmt.Printf("result: %s\n", line)
}

// Tell the test where we are, and wait to be killed.
func stopDead(where string) {
	fmt.Printf("stopped: %s\n", where)
	for {
		time.Sleep(time.Hour)
	}
}

// A business failure, as against a broken connection: what the checks of the
// tables refuse (no stock, no money) and what is there already.
func businessError(err error) error {
	var refused *pq.Error
	if errors.As(err, &refused) && strings.HasPrefix(string(refused.Code), "23") {
		return fmt.Errorf("%s %w", refused.Message, dtmcli.ErrFailure)
	}
	return err
}
