package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmcli"
)

// What is ordered; the payload of every branch.
type order struct {
	Product int `json:"product"`
	Qty     int `json:"qty"`
	User    int `json:"user"`
	Amount  int `json:"amount"`
}

func (o order) bytes() []byte {
	b, err := json.Marshal(o)
	check(err)
	return b
}

// What a branch does to the tables; "" in place of a database means the shop's.
type effect struct {
	bank bool
	sql  string
	args func(o order, gid string) []interface{}
}

func stock(o order, _ string) []interface{}   { return []interface{}{o.Qty, o.Product} }
func account(o order, _ string) []interface{} { return []interface{}{o.Amount, o.User} }
func points(o order, gid string) []interface{} {
	return []interface{}{gid, o.User, o.Amount}
}
func byGid(_ order, gid string) []interface{} { return []interface{}{gid} }

var effects = map[string]effect{
	"/stock/deduct":    {false, "UPDATE stock SET quantity = quantity - $1, sold = sold + $1 WHERE product_id = $2", stock},
	"/stock/return":    {false, "UPDATE stock SET quantity = quantity + $1, sold = sold - $1 WHERE product_id = $2", stock},
	"/stock/try":       {false, "UPDATE stock SET locked = locked + $1 WHERE product_id = $2", stock},
	"/stock/confirm":   {false, "UPDATE stock SET locked = locked - $1, quantity = quantity - $1, sold = sold + $1 WHERE product_id = $2", stock},
	"/stock/cancel":    {false, "UPDATE stock SET locked = locked - $1 WHERE product_id = $2", stock},
	"/account/pay":     {true, "UPDATE accounts SET balance = balance - $1 WHERE user_id = $2", account},
	"/account/refund":  {true, "UPDATE accounts SET balance = balance + $1 WHERE user_id = $2", account},
	"/account/try":     {true, "UPDATE accounts SET held = held + $1 WHERE user_id = $2", account},
	"/account/confirm": {true, "UPDATE accounts SET held = held - $1, balance = balance - $1 WHERE user_id = $2", account},
	"/account/cancel":  {true, "UPDATE accounts SET held = held - $1 WHERE user_id = $2", account},
	"/points/add":      {true, "INSERT INTO points_log (gid, user_id, delta) VALUES ($1, $2, $3)", points},
	"/points/remove":   {true, "DELETE FROM points_log WHERE gid = $1", byGid},
	"/ship/book":       {false, "INSERT INTO shipments (gid) VALUES ($1)", byGid},
	"/ship/cancel":     {false, "DELETE FROM shipments WHERE gid = $1", byGid},
}

func (e effect) db() *sql.DB {
	if e.bank {
		return bankDB
	}
	return shopDB
}

type execer interface {
	Exec(query string, args ...interface{}) (sql.Result, error)
}

func apply(db execer, path string, o order, gid string) error {
	e := effects[path]
	_, err := db.Exec(e.sql, e.args(o, gid)...)
	return businessError(err)
}

// Every call is written down beside its transaction: how often it came so far.
func logCall(qs url.Values, path, header string) (int64, int, error) {
	var seq int64
	var times int
	err := callLog.QueryRow("INSERT INTO call_log (gid, branch_id, op, path, header) VALUES ($1, $2, $3, $4, $5) RETURNING seq",
		qs.Get("gid"), qs.Get("branch_id"), qs.Get("op"), path, header).Scan(&seq)
	if err == nil {
		err = callLog.QueryRow("SELECT count(*) FROM call_log WHERE gid = $1 AND branch_id = $2 AND op = $3 AND path = $4",
			qs.Get("gid"), qs.Get("branch_id"), qs.Get("op"), path).Scan(&times)
	}
	return seq, times, err
}

// What the address of a branch asks for beside the effect:
//
//	ongoing=N, error=N, failure=1   the first N calls are answered 425, 500; all 409
//	meet=N                          answers when N different branches of the gid are here at once
//	hold=1                          the effect, and then no answer before -hold-until is there
func misbehave(qs url.Values, seq int64, times int) error {
	if n, _ := strconv.Atoi(qs.Get("ongoing")); times <= n {
		return dtmcli.ErrOngoing
	}
	if n, _ := strconv.Atoi(qs.Get("error")); times <= n {
		return fmt.Errorf("out of order, call %d", times)
	}
	if qs.Get("failure") != "" {
		return fmt.Errorf("no truck %w", dtmcli.ErrFailure)
	}
	if n, _ := strconv.Atoi(qs.Get("meet")); n > 0 {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			var here int
			// those that have come and not gone, or went after meeting the others
			err := callLog.QueryRow("SELECT count(DISTINCT branch_id) FROM call_log WHERE gid = $1 AND (done_at IS NULL OR met) AND meets",
				qs.Get("gid")).Scan(&here)
			if err != nil || here >= n {
				if err == nil {
					_, err = callLog.Exec("UPDATE call_log SET met = true WHERE seq = $1", seq)
				}
				return err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("alone: %d of %d branches are here", here, n)
			}
		}
	}
	return nil
}

func handleEffect(path string) http.HandlerFunc {
	return handler(path, func(qs url.Values, body []byte) (interface{}, error) {
		var o order
		if err := json.Unmarshal(body, &o); err != nil {
			return nil, err
		}
		bb, err := dtmcli.BarrierFromQuery(qs)
		if err != nil {
			return nil, err
		}
		err = bb.CallWithDB(effects[path].db(), func(tx *sql.Tx) error {
			return apply(tx, path, o, bb.Gid)
		})
		return map[string]string{"done": path, "branch": bb.BranchID}, err
	})
}

// Phase 1 and 2 of a branch of an XA transaction.
func handleXa(path string, conf *dtmcli.DBConf, then string) http.HandlerFunc {
	return handler(path, func(qs url.Values, body []byte) (interface{}, error) {
		err := dtmcli.XaLocalTransaction(qs, *conf, func(db *sql.DB, xa *dtmcli.Xa) error {
			var o order
			if err := json.Unmarshal(body, &o); err != nil {
				return err
			}
			return apply(db, then, o, xa.Gid)
		})
		return dtmcli.MapSuccess, err
	})
}

// A try that calls another service as a branch of its own branch.
func handleNested(qs url.Values, body []byte) (interface{}, error) {
	var o order
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, err
	}
	tcc, err := dtmcli.TccFromQuery(qs)
	if err == nil {
		_, err = tcc.CallBranch(o, rm+"/account/try", rm+"/account/confirm", rm+"/account/cancel")
	}
	return dtmcli.MapSuccess, err
}

func handleQueryPrepared(qs url.Values, _ []byte) (interface{}, error) {
	bb, err := dtmcli.BarrierFromQuery(qs)
	if err == nil {
		err = bb.QueryPrepared(shopDB)
	}
	return dtmcli.MapSuccess, err
}

// Log the call, do it, and answer as the SDK's servers do.
func handler(path string, fn func(qs url.Values, body []byte) (interface{}, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var value interface{}
		qs := req.URL.Query()
		seq, times, err := logCall(qs, path, req.Header.Get("X-Shop"))
		body, rerr := io.ReadAll(req.Body)
		if err == nil {
			err = rerr
		}
		if qs.Get("meet") != "" && err == nil {
			_, err = callLog.Exec("UPDATE call_log SET meets = true WHERE seq = $1", seq)
		}
		if err == nil {
			err = misbehave(qs, seq, times)
		}
		if err == nil {
			value, err = fn(qs, body)
		}
		if qs.Get("hold") != "" && err == nil {
			for _, serr := os.Stat(holdUntil); serr != nil; _, serr = os.Stat(holdUntil) {
				time.Sleep(20 * time.Millisecond)
			}
		}
		if _, derr := callLog.Exec("UPDATE call_log SET done_at = clock_timestamp() WHERE seq = $1", seq); err == nil {
			err = derr
		}
		code, answer := dtmcli.Result2HttpJSON(value)
		if err != nil {
			code, answer = dtmcli.Result2HttpJSON(err)
		}
		writeJSON(w, code, answer)
	}
}

func writeJSON(w http.ResponseWriter, code int, answer interface{}) {
	line, err := json.Marshal(answer)
	if err != nil {
		code, line = http.StatusInternalServerError, []byte(err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(line)
}

// The JSON-RPC face of a branch: method=deduct and method=pay.
func handleJrpc(w http.ResponseWriter, req *http.Request) {
	var call struct {
		ID     interface{} `json:"id"`
		Method string      `json:"method"`
		Params struct {
			order
			Gid       string `json:"gid"`
			TransType string `json:"trans_type"`
			BranchID  string `json:"branch_id"`
			Op        string `json:"op"`
		} `json:"params"`
	}
	answer := map[string]interface{}{"jsonrpc": "2.0", "id": nil, "result": nil, "error": nil}
	err := json.NewDecoder(req.Body).Decode(&call)
	if err == nil {
		var bb *dtmcli.BranchBarrier
		p := call.Params
		path := map[string]string{"deduct": "/stock/deduct", "pay": "/account/pay"}[call.Method]
		qs := url.Values{"gid": {p.Gid}, "branch_id": {p.BranchID}, "op": {p.Op}}
		answer["id"] = call.ID
		_, _, err = logCall(qs, "jrpc:"+call.Method, "")
		if err == nil {
			bb, err = dtmcli.BarrierFrom(p.TransType, p.Gid, p.BranchID, p.Op)
		}
		if err == nil {
			err = bb.CallWithDB(effects[path].db(), func(tx *sql.Tx) error {
				return apply(tx, path, p.order, p.Gid)
			})
		}
	}
	if err != nil {
		answer["error"] = map[string]interface{}{"code": -32603, "message": err.Error()}
	}
	writeJSON(w, http.StatusOK, answer)
}

func serve(listen string) {
	mux := http.NewServeMux()
	for path := range effects {
		mux.HandleFunc(path, handleEffect(path))
	}
	mux.HandleFunc("/xa/stock", handleXa("/xa/stock", &shopConf, "/stock/deduct"))
	mux.HandleFunc("/xa/account", handleXa("/xa/account", &bankConf, "/account/pay"))
	mux.HandleFunc("/nested/try", handler("/nested/try", handleNested))
	// its confirm and cancel have nothing to do: the inner branch has its own
	for _, path := range []string{"/nested/confirm", "/nested/cancel", "/ok"} {
		mux.HandleFunc(path, handler(path, func(url.Values, []byte) (interface{}, error) {
			return dtmcli.MapSuccess, nil
		}))
	}
	mux.HandleFunc("/query_prepared", handler("/query_prepared", handleQueryPrepared))
	mux.HandleFunc("/jrpc", handleJrpc)
	mux.HandleFunc("/workflow/", handleWorkflow)

	listener, err := net.Listen("tcp", listen)
	check(err)
	address := listener.Addr().String()
	if rm == "" {
		rm = "http://" + address
	}
	registerWorkflows("http://" + address + "/workflow/resume")
	fmt.Printf("port %s\n", address[strings.LastIndex(address, ":")+1:])
	check(http.Serve(listener, mux))
}
