# catalogue_rows.sh - the rows of tests/catalogue.sh, which reads this file. The first word of a row
# is the number of its cause in GARBLED.md.
# shellcheck shell=sh disable=SC2154,SC2034 # work, moshi and others are the reader's

# ---- files that do not belong together ------------------------------------------------------------
begin 1a "configuration of a larger model" "\`dim\` 4096 instead of 256" "moshi inspect" && {
    model
    config dim 4096
    inspect "emb.*wanted shape \[257, 4096\], found \[257, 256\]"
}
begin 1b "configuration of a larger model" "\`text_card\` 48000" "moshi inspect" && {
    model
    config text_card 48000
    inspect "48000 entries.*has 256: they do not belong together"
}
begin 1c "configuration of a smaller model" "\`num_layers\` 4 instead of 6" "moshi inspect" && {
    model
    config num_layers 4
    inspect "transformer.layers.4.*has no place in the model"
}
begin 2 "sizes from the program, not from a file" "no \`config.json\`" "moshi inspect" && {
    model
    rm "$work/model/config.json"
    inspect "no config.json gives the model's sizes"
}
begin 3a "delays of another model" "acoustic codebooks 2, not 1" "moshi check" && {
    model
    config delays '[0,0,2,2,2,2,2,2,2,0,2,2,2,2,2,2,2]'
    check "best explanation: acoustic codebooks one frame early"
}
begin 3b "delays of another model" "0, not 1" "moshi check" && {
    model
    config delays '[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]'
    check "best explanation: acoustic codebooks one frame late"
}
begin 3c "delays of another model" "3, not 1" "moshi check" && {
    model
    config delays '[0,0,3,3,3,3,3,3,3,0,3,3,3,3,3,3,3]'
    check "best explanation: acoustic codebooks two frames early"
}
begin 3d "delays of another model" "2, not 1" "moshi compare" && {
    model
    config delays '[0,0,2,2,2,2,2,2,2,0,2,2,2,2,2,2,2]'
    compare "delays"
}
begin 3e "delays of another model, heard only" "those of the user 2, not 1" "moshi compare" && {
    model
    config delays '[0,0,1,1,1,1,1,1,1,0,2,2,2,2,2,2,2]'
    compare "delays"
}
begin 4 "a condition that the files lack" "\`conditioners\` added" "moshi inspect" && {
    model
    config conditioners '{"description":{"type":"lut","lut":{"n_bins":31,"dim":16,"tokenizer":"noop","possible_values":["very_bad","very_good"]}}}'
    inspect 'key "conditioners"'
}
begin 5a "numbers of codebooks" "a codec of 4 codebooks, a model of 8" "moshi inspect" && {
    model
    codec_config quantizer.n_q 4
    inspect "needs a Mimi with 8 codebooks, this one has 4"
}
begin 5b "numbers of codebooks" "\`dep_q\` 4 instead of 8" "moshi inspect" && {
    model
    config dep_q 4
    inspect "needs a Mimi with 12 codebooks, this one has 8"
}
begin 6 "too many codes in a frame" "32 of them, from a codec that has 8" "moshi codec encode" && {
    sign="wanted 1..8.*found 32" ask "codebooks: wanted 1..8" "$moshi" codec encode "$sum" -o codes.safetensors -n 32
}
begin 9a "damaged weights" "one number is NaN" "moshi inspect" && {
    model
    weights nan transformer.layers.2.gating.linear_in.weight
    inspect "transformer.layers.2.gating.linear_in.weight.*NaN"
}
begin 9b "damaged weights" "one number is infinite" "moshi inspect" && {
    model
    weights inf depformer_emb.3.weight
    inspect "depformer_emb.3.weight.*infinite"
}
begin 9c "damaged weights" "a matrix of zeros" "moshi inspect" && {
    model
    weights zero transformer.layers.2.self_attn.out_proj
    inspect "transformer.layers.2.self_attn.out_proj.weight.*zeros"
}
begin 9d "damaged weights" "half of a matrix is zero" "moshi compare" && {
    model
    weights half-zero transformer.layers.3.gating.linear_in.weight
    compare "layer 3"
}
begin 9e "damaged weights" "one number is 1e30" "moshi inspect" && {
    model
    weights huge transformer.layers.1.gating.linear_out.weight
    inspect "transformer.layers.1.gating.linear_out.weight"
}
begin 9f "damaged weights" "a matrix 64 times too large" "moshi compare" && {
    model
    weights scaled transformer.layers.3.gating.linear_in.weight
    compare "layer 3"
}
begin 9g "damaged weights" "a matrix of noise" "moshi compare" && {
    model
    weights noise transformer.layers.2.self_attn.in_proj
    compare "layer 2"
}
begin 9h "damaged weights" "rows and columns of a matrix exchanged" "moshi compare" && {
    model
    weights transposed transformer.layers.3.gating.linear_in.weight
    compare "layer 3"
}
begin 9i "damaged weights" "wrong signs in half of every block of 32" "moshi compare" && {
    model
    weights sign linears.2.weight
    compare "depth|linears.2|codebook 2"
}
begin 9j "damaged weights" "the same" "moshi check" && {
    model
    weights sign linears.2.weight
    check "does not say what it was decoded from|the model said no word"
}
begin 9k "damaged codec" "noise in its upsampling" "moshi check" && {
    model
    codec_weights noise upsample.convtr
    check "codec_roundtrip +through the codec and back +fails|codec_roundtrip fails|clean fails"
}
begin 9l "damaged codec" "two of its codebooks exchanged" "moshi compare" && {
    model
    codec_weights swapped quantizer.rvq_rest.vq.layers.0._codebook.embedding_sum \
        quantizer.rvq_rest.vq.layers.1._codebook.embedding_sum
    compare "codec|codebook|quantizer|rvq"
}
begin 9m "an unfinished download" "the last quarter is missing" "moshi inspect" && {
    model
    own tokenizer-mimi-demo.safetensors
    head -c 4000000 "$demo/tokenizer-mimi-demo.safetensors" >"$work/model/tokenizer-mimi-demo.safetensors"
    inspect "truncated.*unfinished download"
}
begin 9n "a damaged file" "eight bytes of its header are zero" "moshi inspect" && {
    model
    own tokenizer-mimi-demo.safetensors
    printf '\0\0\0\0\0\0\0\0' | dd of="$work/model/tokenizer-mimi-demo.safetensors" bs=1 seek=64 conv=notrunc 2>/dev/null
    inspect "tokenizer-mimi-demo.safetensors: (not a safetensors|.*header)"
}
begin 10 "the chosen precision does not arrive" "bf16 asked of weights that are bf16 already" "moshi check" && {
    model
    sign="no effect" ask "no effect: weight_type" "$moshi" check --type stored,bf16 --resampler none --fresh --quiet
}
begin 11 "a name that says other things than the file" "bf16 weights called \`model.q8.gguf\`" "moshi inspect" && {
    model
    mv "$work/model/model.safetensors" "$work/model/model.q8.gguf"
    config moshi_name '"model.q8.gguf"'
    sign="245 BF16" ask "245 BF16" "$moshi" inspect "$work/model"
}
begin 12a "another file as the codec" "the language model" "moshi inspect" && {
    model
    config mimi_name '"model.safetensors"'
    inspect "belong together; this looks like a Moshi-family language model"
}
begin 12b "another file as the tokenizer" "the codec" "moshi inspect" && {
    model
    config tokenizer_name '"tokenizer-mimi-demo.safetensors"'
    inspect "wanted a SentencePiece model"
}
begin 13 "no depth transformer in the file" "its tensors taken out" "moshi inspect" && {
    model
    weights drop depformer
    inspect "depformer.*is missing"
}

# ---- state and sessions ---------------------------------------------------------------------------
begin 14 "the decoder forgets" "every frame decoded by a codec without a past" "moshi analyze" &&
    hear glitches codec forgetful-decoder "$demo"
begin 18 "only the outermost error is told" "a codec whose weights cannot be read" "moshi reply" && {
    model
    own tokenizer-mimi-demo.safetensors
    head -c 4000000 "$demo/tokenizer-mimi-demo.safetensors" >"$work/model/tokenizer-mimi-demo.safetensors"
    ask "tokenizer-mimi-demo.safetensors: .*truncated.*wanted|promises" "$moshi" reply "$sum" -o a.wav -m "$work/model"
}
begin 20 "one encoder for two callers" "frames of another call between its own" "moshi analyze --codes" &&
    codes=yes hear 'codes-[a-z]*' codec two "$demo" "$sum"
begin 24 "the encoder forgets" "every frame encoded by a codec without a past" "moshi analyze --codes" &&
    codes=yes hear 'codes-[a-z]*' codec forgetful-encoder "$demo"

# ---- tokens ---------------------------------------------------------------------------------------
begin 23 "one of several frames is taken" "a quarter of every frame kept" "moshi analyze" &&
    hear 'frames-dropped|glitches' sound one-packet-of-four
begin 25a "codes transposed" "[codebooks, frames] read as [frames, codebooks]" "moshi analyze --codes" &&
    codes=yes hear 'codes-reordered|unlike-codes' codec transposed "$demo"
begin 25b "codebooks in another order" "each in the place of the one before" "moshi analyze --codes" &&
    codes=yes hear codes-reordered codec rotated "$demo"
begin 25c "codebooks in another order" "last first" "moshi analyze --codes" &&
    codes=yes hear codes-reordered codec backwards "$demo"
begin 25d "codebooks in another order" "weights of two depth outputs exchanged" "moshi compare" && {
    model
    weights swapped linears.1.weight linears.2.weight
    compare "linears|depth|codebook"
}
begin 26 "acoustic codes of another frame" "one frame late" "moshi analyze --codes" &&
    codes=yes hear codes-delayed codec acoustic-late-1 "$demo"
begin 27a "samples backwards" "all of them" "moshi analyze" && hear reversed sound reversed
for size in 1920 960 480 288 240 120; do
    begin "27b-$size" "samples backwards" "in blocks of $size" "moshi analyze" &&
        hear frames-reversed sound "blocks-reversed-$size"
done
begin 29 "other sampling" "temperature 5, no top-k" "moshi inspect" && {
    model
    config lm_gen_config '{"temp":5,"top_k":0,"temp_text":5,"top_k_text":0}'
    inspect "a temperature of 5"
}
begin 32 "a greeting of one frame" "80 ms of a tone, again and again" "moshi analyze" &&
    hear not-speech sound tone-frames
begin 33 "code 0 taken for silence" "codes of zeros" "moshi analyze" && hear not-speech codec zero-codes "$demo"
begin 35 "a text stream nobody looks at" "noise in the text's output matrix" "moshi check" && {
    model
    weights noise text_linear.weight
    check "inner text does not belong to the sound"
}

# ---- sound in and out -----------------------------------------------------------------------------
begin 36 "nothing arrives" "silence" "moshi analyze" && hear silent sound silent
begin 37a "a device that plays at another rate" "44100 Hz played at 16000" "moshi analyze" &&
    hear too-slow sound 44100-as-16000
begin 37b "a device that plays at another rate" "24000 Hz played at 44100" "moshi analyze" &&
    hear too-fast sound 24000-as-44100
begin 38 "a stream for every block" "half a second of sound, three of nothing" "moshi analyze" &&
    hear gaps sound stream-per-block
begin 39a "a microphone of another rate" "48000 Hz taken for 24000" "moshi analyze" &&
    hear too-slow sound 48000-as-24000
begin 39b "a microphone of another rate" "44100 Hz taken for 24000" "moshi analyze" &&
    hear too-slow sound 44100-as-24000
begin 39c "a microphone of another rate" "16000 Hz taken for 24000" "moshi analyze" &&
    hear too-fast sound 16000-as-24000
begin 39d "stereo taken for mono" "interleaved samples" "moshi analyze" && hear interleaved sound interleaved-stereo
begin 40a "a queue emptied at the wrong end" "frames in reverse order" "moshi analyze" &&
    hear order-reversed sound order-reversed
begin 40b "a queue emptied at the wrong end" "neighbours exchanged" "moshi analyze" &&
    hear frames-swapped sound frames-swapped
begin 40c "a queue used by two threads" "frames in random order" "moshi analyze" &&
    hear frames-shuffled sound frames-shuffled
begin 41 "settings of the resampler that do nothing" "linear and cubic, to 48000 Hz" "moshi check" &&
    sign="no effect" ask "no effect: resampler" "$moshi" check --resampler 1,2 --rate 48000 --fresh --quiet
begin 43 "a wrong mu-law encoder" "exponent two too large" "moshi analyze" &&
    hear 'ulaw-as-linear|linear-as-ulaw' sound wrong-ulaw
begin 44 "packets padded to frames" "20 ms of sound, 60 of nothing" "moshi analyze" &&
    hear gaps sound padded-packets
begin 45a "a resampler without memory" "every packet of 20 ms for itself" "moshi analyze" &&
    hear glitches sound resampled-packets
begin 45b "integers that overflow" "samples wrapped around" "moshi analyze" && hear wrapped sound wrapped
begin 46a "integers taken for floats" "samples of up to 32767" "moshi analyze" &&
    hear int16-as-float sound int16-as-float
begin 46b "integers taken for floats" "their bits" "moshi analyze" && hear int16-as-float sound int16-bits-as-float
begin 46c "floats taken for integers" "their bits" "moshi analyze" && hear float-as-int16 sound float-as-int16
begin 46d "too loud" "clipped" "moshi analyze" && hear clipped sound clipped
begin 46e "lost frames" "one in six" "moshi analyze" && hear frames-dropped sound frames-dropped
begin 46f "underruns" "the last frame comes again" "moshi analyze" && hear frames-repeated sound frames-repeated
begin 46g "underruns" "silence instead" "moshi analyze" && hear gaps sound gaps
begin 48a "a header that names another rate" "24000 Hz called 48000" "moshi analyze" &&
    hear too-fast sound 24000-as-48000
begin 48b "bytes of the other order" "swapped" "moshi analyze" && hear swapped-bytes sound swapped-bytes
begin 48c "bytes of the other order" "from one byte too late" "moshi analyze" && hear odd-byte sound odd-byte
begin 48d "another sample format" "unsigned read as signed" "moshi analyze" && hear sign-flipped sound sign-flipped
begin 48e "another sample format" "mu-law read as linear" "moshi analyze" && hear ulaw-as-linear sound ulaw-as-linear
begin 48f "channels of opposite polarity" "mixed to one" "moshi analyze" &&
    hear channels-cancel sound opposite-channels
begin 48g "an offset" "0.4 under a sound of 0.4" "moshi analyze" && hear dc-offset sound offset
begin 48h "a program killed while it writes" "half of the samples that the header promises" "moshi reply" && {
    head -c 140000 "$sum" >"$work/run/half.wav"
    sign="promise" ask "half.wav: .*promise" "$moshi" reply half.wav -o a.wav --quiet
}

# ---- computing ------------------------------------------------------------------------------------
begin 49 "a device that is not built in" "cuda:0" "moshi reply" &&
    ask "device 'cuda:0' is not available: wanted" "$moshi" reply "$sum" -o a.wav --device cuda:0
wrong_device() { # wrong_device FAULT WHAT DOCTOR-SAYS COMPARE-SAYS
    MOSHI_FAULTY=$1
    export MOSHI_FAULTY
    begin "50-$1-doctor" "a device that computes wrong" "$2" "moshi doctor" &&
        ask "why +wrong answers from: .*($3)" "$faulty" doctor
    begin "50-$1-compare" "a device that computes wrong" "$2" "moshi compare" &&
        ask "first: .*($4)" "$faulty" compare cpu "faulty:$1" --input "$sum" --frames 4 --quiet
    unset MOSHI_FAULTY
}
wrong_device elu "slope of the ELU" ELU ELU
wrong_device gelu "approximate GELU" GELU "activation of the feed-forward"
wrong_device trim "transposed convolution cut one sample early" "transposed convolution" "upsampling"
wrong_device softmax "scale of the softmax" softmax softmax
wrong_device block "one block of weights" "linear bf16" "matrix"
wrong_device nan "one lane is NaN" linear "convolution|matrix"
broken_device() { # broken_device FAULT CAUSE WHAT DOCTOR-SAYS
    MOSHI_FAULTY=$1
    export MOSHI_FAULTY
    begin "51-$1" "$2" "$3" "moshi doctor" && ask "$4" "$faulty" doctor --deadline 10
    unset MOSHI_FAULTY
}
broken_device abort "a driver that ends the program" "abort() when it is opened" "ended by SIGABRT at: open"
broken_device exception "an exception of foreign code" "thrown when it is opened" \
    "ended by SIGABRT at: open; it said: terminate called"
broken_device corrupt "a driver that corrupts memory" "while weights arrive" "ended by SIGSEGV at: weights"
broken_device hang "a device that hangs" "in the first frame" "hung at: first frame"
broken_device refuse "a driver that is too old" "refuses to open" "wanted driver 2.0, found 1.0"
broken_device no-memory "too little device memory" "none for the weights" "out of memory while loading weights"
begin 51-late "a crash after a while" "a bad pointer in the 40th call" "moshi reply" && {
    MOSHI_FAULTY=late
    export MOSHI_FAULTY
    sign="ended by SIGSEGV" ask "ended by SIGSEGV at: (encode|step|decode), frame [0-9]+.* \(faulty:late\); report:" "$faulty" reply "$sum" -o a.wav
    unset MOSHI_FAULTY
}
begin 52 "a silent change to the CPU" "a device that cannot be opened" "moshi reply" && {
    MOSHI_FAULTY=refuse
    export MOSHI_FAULTY
    rm -rf "$XDG_STATE_HOME"
    sign="computing on 'cpu'" ask "'faulty:refuse' does not work: .*wanted driver 2.0" "$faulty" reply "$sum" -o a.wav
    unset MOSHI_FAULTY
}

# ---- measuring ------------------------------------------------------------------------------------
begin 58 "a stimulus without speech" "noise at -60 dB" "moshi check" && {
    "$inject" sound faint-noise "$sum" "$work/run/noise.wav"
    ask "too little speech in the input|not speech|tell speech from broken speech here" \
        "$moshi" check --input noise.wav --resampler none --fresh --quiet
}
begin 59 "a result from before" "the same run again" "moshi check" && {
    (cd "$work/run" && "$moshi" check --resampler none --fresh --quiet >/dev/null 2>&1)
    sign="skipped" ask "skipped: it was done .*--fresh does it again" "$moshi" check --resampler none --quiet
}
begin 60 "a score that is blind" "speech backwards, which the old score likes as well" "moshi analyze" &&
    hear reversed sound reversed
begin 61 "results of another program or model" "the same run after the model was changed" "moshi check" && {
    model
    (cd "$work/run" && "$moshi" check -m "$work/model" --resampler none --fresh --quiet >/dev/null 2>&1)
    config lm_gen_config '{"temp":0.7,"top_k":250,"temp_text":0.2,"top_k_text":10}'
    sign="; 0 of them were there already" ask "; 0 of them were there already" \
        "$moshi" check -m "$work/model" --resampler none --quiet
}

# ---- what is sound ----------------------------------------------------------------------------------
# fine INJECTED COMMAND...: must not fail
fine() {
    row=sound cause="" injected=$1 asked=""
    shift
    (cd "$work/run" && exec "$@") >"$work/answer" 2>&1 </dev/null
    code=$?
    note $((code != 0)) 0 1 'score'
    [ $code = 0 ] || sed 's/^/    /' "$work/answer" >&2
}
wanted sound && {
    clean="$samples/*.wav $samples/*.flac"
    [ -d "$more" ] && clean="$clean $more/*.flac"
    for recording in $clean; do
        name=${recording##*/}
        fine "$name" "$moshi" analyze "$recording"
        "$inject" codec as-is "$recording" "$work/run/decoded.wav" "$demo" || exit 1
        fine "$name, through the codec" "$moshi" analyze decoded.wav
        "$moshi" reply "$recording" -o "$work/run/answer.wav" --quiet >/dev/null || exit 1
        fine "answer to $name" "$moshi" analyze answer.wav
    done
    fine "check" "$moshi" check --resampler 1,none --seed 1,2 --fresh --quiet
    fine "check, 48 kHz" "$moshi" check --resampler 3 --rate 48000 --path both --fresh --quiet
    fine "inspect" "$moshi" inspect
    fine "doctor" "$moshi" doctor
    fine "compare" "$moshi" compare cpu cpu+threads=1 --input "$sum" --frames 30 --quiet
    fine "compare, coarse format" "$moshi" compare cpu q4_0 --input "$sum" --frames 30 --quiet
    model
    codec_config quantizer.n_q 32
    fine "a codec said to have 32 codebooks: the model takes 8" "$moshi" check -m "$work/model" --resampler none --fresh --quiet
}
