# A run on token shards whose tokenizer is no longer where its config says: needs tiny_run.bash. Sourced, not run; makes
# $folder/moved, its $shard, the tokenizer in new.json and another one in other.json.

text='A text of few characters, and many of them: it fills some windows of a small context, and is read again and again.'
sed 's/and/&z/g' <<< "$text" > "$folder/other.txt"
for name in old other; do
  [[ $name == other ]] || echo "$text" > "$folder/$name.txt"
  "$SLUICE" tokenizer train "$folder/$name.txt" --type characters --out "$folder/$name.json" > "$folder/out" 2> "$folder/err" ||
    fail "tokenizer train: $(cat "$folder/err")"
done
"$SLUICE" tokenizer encode "$folder/old.txt" --tokenizer "$folder/old.json" --out "$folder/few" > "$folder/out" \
  2> "$folder/err" || fail "tokenizer encode: $(cat "$folder/err")"
shard=$(ls "$folder"/few*.bin)
train moved --set data.type=tokens --set "data.train_shards=[\"$shard\"]" --set "data.validation_shards=[\"$shard\"]" \
  --set "data.tokenizer=$folder/old.json" --set train.steps=2 || fail "train: $(cat "$folder/err")"
mv "$folder/old.json" "$folder/new.json"
