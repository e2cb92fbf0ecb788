## Sends pictures to `rgbflow serve` and emits a signal when an action starts or ends. For Godot 4. Not run here.
##
## Add it as a node, connect its signals, and pass pictures as they come:
##     $Rgbflow.send_frame($SubViewport.get_texture().get_image())
## docs/protocol.md has the messages.
class_name Rgbflow
extends Node

signal action_started(label: String)
signal action_ended(label: String)
signal updated(label: String, score: float)

const LONGEST_WAIT := 8.0

@export var server := "ws://127.0.0.1:8000/live"
@export var token := ""  ## of `rgbflow serve --token-file`
@export var width := 320  ## pixels of the pictures that are sent
@export var rate := 25.0  ## pictures a second, at most

var _socket: WebSocketPeer
var _number := 0
var _sent_at := -INF
var _wait := 0.25  # seconds until the next attempt to connect
var _left := 0.0


func _ready() -> void:
	_open()


func _open() -> void:
	_socket = WebSocketPeer.new()
	_socket.outbound_buffer_size = 1 << 20
	_socket.inbound_buffer_size = 1 << 20
	_socket.supported_protocols = PackedStringArray(["rgbflow.v1"])
	if token != "":
		_socket.handshake_headers = PackedStringArray(["Authorization: Bearer " + token])
	_left = _wait
	_wait = minf(2.0 * _wait, LONGEST_WAIT)
	if _socket.connect_to_url(server) != OK:
		push_warning("rgbflow: %s can't be used" % server)


func _process(delta: float) -> void:
	_socket.poll()
	if _socket.get_ready_state() == WebSocketPeer.STATE_CLOSED:
		_left -= delta
		if _left <= 0.0:
			_open()
	while _socket.get_available_packet_count() > 0:
		var packet := _socket.get_packet()
		if _socket.was_string_packet():
			_receive(JSON.parse_string(packet.get_string_from_utf8()))


func _receive(message: Dictionary) -> void:
	match message["type"]:
		"hello":
			_wait = 0.25
		"update":
			updated.emit(message["label"], message["score"])
		"event":
			(action_started if message["kind"] == "start" else action_ended).emit(message["label"])
		"notice", "error":
			push_warning("rgbflow: " + message["message"])


## Send one picture; skipped while the link is busy, or where it comes sooner than `rate` allows.
func send_frame(image: Image) -> void:
	var seconds := Time.get_ticks_usec() / 1e6
	var is_open := _socket.get_ready_state() == WebSocketPeer.STATE_OPEN
	if not is_open or _socket.get_current_outbound_buffered_amount() > 0 or seconds - _sent_at < 0.9 / rate:
		return
	_sent_at = seconds
	_number += 1
	if image.get_width() > width:
		image.resize(width, roundi(float(image.get_height()) * width / image.get_width()))
	_socket.send(_pack(_number, seconds, image.save_jpg_to_buffer(0.85)))


## 16 bytes of header, little-endian as PackedByteArray always encodes, then the picture.
func _pack(number: int, seconds: float, picture: PackedByteArray) -> PackedByteArray:
	var message := PackedByteArray()
	message.resize(16)
	message.encode_u32(0, number)
	message.encode_u32(4, 0)
	message.encode_double(8, seconds)
	message.append_array(picture)
	return message
