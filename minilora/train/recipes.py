"""The steps of a training, as the lessons and one's own programs call them: load, read a text, evaluate, save."""

from minilora.train.answers import Chats as Chats
from minilora.train.catalog import BASE as BASE
from minilora.train.load import base_folder as base_folder
from minilora.train.load import base_of as base_of
from minilora.train.load import count_parameters as count_parameters
from minilora.train.load import load_model as load_model
from minilora.train.load import new_model as new_model
from minilora.train.load import path_of_model as path_of_model
from minilora.train.load import tokenizer_of as tokenizer_of
from minilora.train.metrics import evaluator as evaluator
from minilora.train.save import save_adapter as save_adapter
from minilora.train.save import save_gguf as save_gguf
from minilora.train.save import save_lora_gguf as save_lora_gguf
from minilora.train.save import save_model as save_model
from minilora.train.save import training_of as training_of
from minilora.train.text import PADDING as PADDING
from minilora.train.text import Text as Text
from minilora.train.text import num_examples as num_examples
from minilora.train.text import read_data as read_data
from minilora.train.text import read_text as read_text
from minilora.train.text import sample as sample
from minilora.train.text import tokenizer_for as tokenizer_for
from minilora.train.text import training_batches as training_batches
